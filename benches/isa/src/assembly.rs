//! Counts instructions in the assembly of AMD's RDNA, as RADV prints it, and of NVIDIA, as NAK does.
//!
//! RADV begins each basic block with a line `BB<n>:`; an instruction is a line, its encoding after a semicolon; two instructions that issue
//! together are joined by `::`. NAK begins a block with a line `block <n> ... {`; an instruction is `[@predicate] [results =] name operands
//! // scheduling`.

use crate::compiler::Vendor;

/// The instruction counts of one basic block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Block {
    pub instructions: u32,
    /// Multiply-adds of vectors or matrices: of the latter, one instruction is thousands of them.
    pub multiply_adds: u32,
    /// Those of matrices.
    pub matrix_products: u32,
    /// Loads from workgroup memory.
    pub local_loads: u32,
    /// Loads from buffers, by the vector or the scalar unit.
    pub global_loads: u32,
}

/// Prefixes of the names of instructions.
struct Names {
    multiply_adds: &'static [&'static str],
    matrix_products: &'static [&'static str],
    local_loads: &'static [&'static str],
    global_loads: &'static [&'static str],
}

const AMD: Names = Names {
    multiply_adds: &["v_fma", "v_mad_f", "v_mac_f", "v_pk_fma", "v_dual_fma", "v_dot2", "v_dot4", "v_wmma"],
    matrix_products: &["v_wmma"],
    local_loads: &["ds_load", "ds_read"],
    global_loads: &["buffer_load", "global_load", "s_buffer_load"],
};

const NVIDIA: Names = Names {
    multiply_adds: &["ffma", "hfma2", "hmma"],
    matrix_products: &["hmma"],
    local_loads: &["ld.shared", "ldsm"],
    global_loads: &["ld.global"],
};

impl Block {
    /// Multiply-adds per instruction; a dual-issue line is one instruction with up to two of them.
    pub fn share(&self) -> f64 {
        f64::from(self.multiply_adds) / f64::from(self.instructions.max(1))
    }

    /// Multiply-adds per load from workgroup memory, if there is such a load.
    pub fn per_local_load(&self) -> Option<f64> {
        (self.local_loads > 0).then(|| f64::from(self.multiply_adds) / f64::from(self.local_loads))
    }

    /// Counts the instructions of a line, given by their names.
    fn count(&mut self, operations: &[&str], names: &Names) {
        if operations.is_empty() {
            return;
        }
        let those = |begin: &[&str]| operations.iter().filter(|name| begin.iter().any(|b| name.starts_with(b))).count() as u32;
        self.instructions += 1;
        self.multiply_adds += those(names.multiply_adds);
        self.matrix_products += those(names.matrix_products);
        self.local_loads += those(names.local_loads);
        self.global_loads += those(names.global_loads);
    }
}

/// The basic block with the most multiply-adds; empty if there is none.
pub fn hot_block(vendor: Vendor, text: &str) -> Block {
    let mut blocks = vec![Block::default()];
    for line in text.lines() {
        let (begins, operations, names) = match vendor {
            Vendor::Amd => (line.starts_with("BB"), amd(line), &AMD),
            Vendor::Nvidia => (line.starts_with("block"), nvidia(line), &NVIDIA),
        };
        if begins {
            blocks.push(Block::default());
        } else {
            blocks.last_mut().expect("never empty").count(&operations, names);
        }
    }
    let best = blocks.into_iter().reduce(|best, block| if block.multiply_adds > best.multiply_adds { block } else { best });
    best.filter(|block| block.multiply_adds > 0).unwrap_or_default()
}

/// The names of the instructions on a line of RADV's.
fn amd(line: &str) -> Vec<&str> {
    let code = line.split(';').next().unwrap_or_default();
    code.split("::").filter_map(|half| half.split_whitespace().next()).collect()
}

/// The name of the instruction on a line of NAK's.
fn nvidia(line: &str) -> Vec<&str> {
    let code = line.split("//").next().unwrap_or_default();
    let code = code.split_once(" = ").map_or(code, |(_, operation)| operation);
    let name = code.split_whitespace().find(|word| !word.starts_with('@'));
    name.filter(|name| !name.starts_with('}')).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_block_with_most_multiply_adds() {
        let text = "BB0:\n\tv_fma_f32 v0, v1, v2, v3  ; d613\n\ts_endpgm\nBB1:\n\tds_load_b128 v[0:3], v4 ; d\n\
                    \tv_dual_fmac_f32 v1, v2, v3 :: v_dual_fmac_f32 v4, v5, v6 ; c8\n\tv_fmac_f32_e32 v1, v2, v3 ; 56\n\
                    \tbuffer_load_b32 v1, v2, s[0:3], 0 ; e0\nBB2:\n\tv_mul_f32 v1, v2, v3 ; 10\n";
        let hot = hot_block(Vendor::Amd, text);
        assert_eq!(hot, Block { instructions: 4, multiply_adds: 3, matrix_products: 0, local_loads: 1, global_loads: 1 });
        assert_eq!((hot.share(), hot.per_local_load()), (0.75, Some(3.0)));
        assert_eq!(hot_block(Vendor::Amd, "BB0:\n\ts_endpgm ; bf\n").instructions, 0);
    }

    #[test]
    fn reads_the_assembly_of_nvidia() {
        let text = "block.u 0 L2 [] -> {\n      r1      = ffma r1 r2 r3   // delay=4\n} -> [1]\nblock 1 L4 [0] -> {\n\
                    \x20     r32..36 = ld.shared.strong.cta.b128 [r1.x16+0xbb0], pT  // delay=1 wr:4\n\
                    \x20     r4..8   = ldsm.16.m8n8.x4 [r1+0x10] // delay=1\n\
                    \x20     r8..12  = hmma.m16n8k16.f32 r4..8 r2..4 r8..12 // delay=8\n\
                    @!p0  r1      = ffma r1 r2 r3   // delay=4\n\
                    \x20     r5      = ld.global.a64.strong.gpu.b32 [r6..8] // delay=1\n\
                    @!p0            bra pT L18                                    // delay=1\n} -> [0]\n";
        let hot = hot_block(Vendor::Nvidia, text);
        assert_eq!(hot, Block { instructions: 6, multiply_adds: 2, matrix_products: 1, local_loads: 2, global_loads: 1 });
    }
}
