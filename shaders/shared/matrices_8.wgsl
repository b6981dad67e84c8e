// The matrices of tile_cooperative.wgsl and attention_matrices.wgsl: 8 x 8, in subgroups of 8.
const MAT: u32 = 8u;
const SUBGROUP: u32 = 8u;
alias Left = coop_mat8x8<f16, A>;
alias Right = coop_mat8x8<f16, B>;
alias Product = coop_mat8x8<f32, C>;
