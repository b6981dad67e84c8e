//! A dispatch on an adapter: its variant, and the launches that its grid is cut into.

use super::Gpu;
use super::kernel::Interface;
use super::options::Options;
use super::plan::Dispatch;
use super::variants;

/// Alignment of `Dims` blocks: the largest that any WebGPU device requires of an offset.
pub(crate) const ALIGNMENT: u64 = 256;

/// The most launches of a dispatch, unless the adapter's grid limit requires more: each takes 256 bytes.
const MOST_LAUNCHES: f64 = 256.0;

/// A grid cut into launches.
pub(crate) struct Grid {
    pub groups: u64,
    pub per_launch: u64,
}

/// The interface of the variant that a dispatch uses.
pub(crate) fn interface<'d>(dispatch: &'d Dispatch, gpu: &Gpu, options: &Options) -> &'d Interface {
    let wanted = variants::wanted(&options.variants, dispatch);
    let avoid = variants::avoided(&options.avoid, dispatch);
    &dispatch.kernel.interfaces()[dispatch.kernel.choose(gpu.traits(), &dispatch.extent, wanted, &avoid)]
}

impl Grid {
    pub fn launches(&self) -> u64 {
        self.groups.div_ceil(self.per_launch)
    }
}

impl Dispatch {
    /// FLOPs plus bytes: one byte moved costs as much as two operations.
    pub(crate) fn cost(&self) -> f64 {
        self.flops as f64 + 2.0 * self.bytes() as f64
    }

    pub(crate) fn grid(&self, gpu: &Gpu, options: &Options) -> Grid {
        let interface = interface(self, gpu, options);
        let groups = self.extent.workgroups(interface.tile).max(1);
        let allowed = u64::from(gpu.limits().max_compute_workgroups_per_dimension);
        // A submitted launch cannot be interrupted, so it must be short: at most a quarter of a second on a slow adapter of its kind, and a
        // millisecond or two if slices must fit into a frame.
        let longest = match (gpu.traits().software, options.fine) {
            (true, false) => 5e8,
            (true, true) => 4e6,
            (false, false) => 2e10,
            (false, true) => 2e8,
        };
        let longest = f64::max(longest, self.cost() / MOST_LAUNCHES);
        let by_price = (groups as f64 * longest / self.cost()).ceil() as u64;
        let wanted = if options.max_groups > 0 { u64::from(options.max_groups) } else { by_price };
        Grid { groups, per_launch: wanted.clamp(1, allowed) }
    }
}
