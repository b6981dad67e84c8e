//! The logical size of a dispatch, before a variant is chosen.

/// The logical size of a dispatch's output; the tile of the variant turns it into a grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Rows of one output, elements of an elementwise kernel, or workgroups if not `tiled`.
    pub rows: u64,
    /// Columns of one output; 1 if the kernel loops over that axis.
    pub cols: u64,
    /// Number of independent outputs of this size.
    pub batch: u64,
    /// False if the kernel maps workgroups to work itself: `rows` is then the number of workgroups.
    pub tiled: bool,
}

impl Extent {
    /// `rows` outputs of a kernel that loops over the other axis, or `rows` elements of an elementwise kernel.
    pub fn rows(rows: usize) -> Extent {
        Extent { rows: rows as u64, cols: 1, batch: 1, tiled: true }
    }

    /// An output matrix.
    pub fn matrix(rows: usize, cols: usize) -> Extent {
        Extent { rows: rows as u64, cols: cols as u64, batch: 1, tiled: true }
    }

    /// The number of workgroups that cover the extent with such tiles; without a tile size for columns the kernel loops over them.
    pub(crate) fn workgroups(&self, tile: [Option<u32>; 2]) -> u64 {
        if !self.tiled {
            return self.rows;
        }
        let tiles = |n: u64, per_group: Option<u32>| per_group.map_or(1, |p| n.div_ceil(u64::from(p)));
        tiles(self.rows, tile[0].or(Some(1))) * tiles(self.cols, tile[1]) * self.batch
    }

    /// Exactly this many workgroups.
    pub fn groups(count: usize) -> Extent {
        Extent { rows: count as u64, cols: 1, batch: 1, tiled: false }
    }

    /// `batch` independent outputs of `rows`.
    pub fn batched(rows: usize, batch: usize) -> Extent {
        Extent { rows: rows as u64, cols: 1, batch: batch as u64, tiled: true }
    }
}
