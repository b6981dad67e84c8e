//! Parses RDNA assembly from RADV: each basic block begins with a line `BB<n>:`; one instruction per line, its encoding after a semicolon.

/// The instruction counts of one basic block.
#[derive(Debug, Clone, Copy, Default)]
pub struct Block {
    pub instructions: u32,
    pub multiply_adds: u32,
    /// Loads from workgroup memory.
    pub local_loads: u32,
    /// Loads from buffers, by the vector or the scalar unit.
    pub global_loads: u32,
}

/// Prefixes of the names of multiply-add instructions.
const MULTIPLY_ADDS: [&str; 8] = ["v_fma", "v_mad_f", "v_mac_f", "v_pk_fma", "v_dual_fma", "v_dot2", "v_dot4", "v_wmma"];

impl Block {
    /// Multiply-adds per instruction; a dual-issue line is one instruction with up to two of them.
    pub fn share(&self) -> f64 {
        f64::from(self.multiply_adds) / f64::from(self.instructions.max(1))
    }

    pub fn local_per_multiply_add(&self) -> f64 {
        f64::from(self.local_loads) / f64::from(self.multiply_adds.max(1))
    }

    pub fn global_per_multiply_add(&self) -> f64 {
        f64::from(self.global_loads) / f64::from(self.multiply_adds.max(1))
    }

    fn count(&mut self, line: &str) {
        let code = line.split(';').next().unwrap_or_default();
        let operations: Vec<&str> = code.split("::").filter_map(|half| half.split_whitespace().next()).collect();
        if operations.is_empty() {
            return;
        }
        let those = |begin: &[&str]| operations.iter().filter(|name| begin.iter().any(|b| name.starts_with(b))).count() as u32;
        self.instructions += 1;
        self.multiply_adds += those(&MULTIPLY_ADDS);
        self.local_loads += those(&["ds_load", "ds_read"]);
        self.global_loads += those(&["buffer_load", "global_load", "s_buffer_load"]);
    }
}

/// The basic block with the most multiply-adds; empty if there is none.
pub fn hot_block(text: &str) -> Block {
    let mut blocks = vec![Block::default()];
    for line in text.lines() {
        match line.strip_prefix("BB") {
            Some(_) => blocks.push(Block::default()),
            None => blocks.last_mut().expect("never empty").count(line),
        }
    }
    let best = blocks.into_iter().reduce(|best, block| if block.multiply_adds > best.multiply_adds { block } else { best });
    best.filter(|block| block.multiply_adds > 0).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_block_with_most_multiply_adds() {
        let text = "BB0:\n\tv_fma_f32 v0, v1, v2, v3  ; d613\n\ts_endpgm\nBB1:\n\tds_load_b128 v[0:3], v4 ; d\n\
                    \tv_dual_fmac_f32 v1, v2, v3 :: v_dual_fmac_f32 v4, v5, v6 ; c8\n\tv_fmac_f32_e32 v1, v2, v3 ; 56\n\
                    \tbuffer_load_b32 v1, v2, s[0:3], 0 ; e0\nBB2:\n\tv_mul_f32 v1, v2, v3 ; 10\n";
        let hot = hot_block(text);
        assert_eq!((hot.instructions, hot.multiply_adds, hot.local_loads, hot.global_loads), (4, 3, 1, 1));
        assert_eq!(hot.share(), 0.75);
        assert_eq!(hot_block("BB0:\n\ts_endpgm ; bf\n").instructions, 0);
    }
}
