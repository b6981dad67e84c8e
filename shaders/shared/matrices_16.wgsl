// The matrices of tile_cooperative.wgsl: 16 x 16, in subgroups of 32.
const MAT: u32 = 16u;
const SUBGROUP: u32 = 32u;
const ROW_MATS: u32 = 4u;
const COL_MATS: u32 = 4u;
alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Product = coop_mat16x16<f32, C>;
