// As many as a workgroup may have: for long rows, and few of them.
const LANES: u32 = 256u;
