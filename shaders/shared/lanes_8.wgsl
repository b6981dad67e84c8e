// One subgroup of a software adapter: a barrier among its invocations costs nothing.
const LANES: u32 = 8u;
