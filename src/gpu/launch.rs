//! What a dispatch becomes on an adapter: the variant that it takes, and the launches that its grid is cut into.

use super::Gpu;
use super::kernel::Interface;
use super::options::Options;
use super::plan::Dispatch;
use super::variants;

/// Offsets of `Dims` blocks and of pool slices: the largest alignment that any WebGPU device asks for.
pub(crate) const ALIGNMENT: u64 = 256;

/// Launches that a dispatch is cut into at most, unless the adapter allows no larger ones: each takes 256 bytes.
const MOST_LAUNCHES: f64 = 256.0;

/// A grid cut into launches.
pub(crate) struct Grid {
    pub groups: u64,
    pub per_launch: u64,
}

/// The variant that a dispatch takes.
pub(crate) fn interface<'d>(dispatch: &'d Dispatch, gpu: &Gpu, options: &Options) -> &'d Interface {
    let wanted = variants::wanted(&options.variants, dispatch);
    &dispatch.kernel.interfaces()[dispatch.kernel.choose(gpu.traits(), &dispatch.extent, wanted)]
}

impl Grid {
    pub fn launches(&self) -> u64 {
        self.groups.div_ceil(self.per_launch)
    }
}

impl Dispatch {
    /// FLOPs plus bytes: one byte moved is priced as two operations.
    pub(crate) fn cost(&self) -> f64 {
        self.flops as f64 + 2.0 * self.bytes() as f64
    }

    pub(crate) fn grid(&self, gpu: &Gpu, options: &Options) -> Grid {
        let interface = interface(self, gpu, options);
        let groups = self.extent.workgroups(interface.tile).max(1);
        let allowed = u64::from(gpu.limits().max_compute_workgroups_per_dimension);
        // A launch cannot be cut once it is submitted, so that none may be long: a quarter of a second on a slow adapter of its kind.
        // For slices of a frame it is a millisecond or two.
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
