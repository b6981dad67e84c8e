// The matrices of tile_cooperative.wgsl and attention_matrices.wgsl: 16 x 16, in subgroups of 32.
const MAT: u32 = 16u;
const SUBGROUP: u32 = 32u;
alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Product = coop_mat16x16<f32, C>;
