// What the invocations of a workgroup know of their subgroups. Not a kernel: only the self-test runs it. A file of its own, as a device
// without subgroups refuses the whole module.
//
//   look            y[lane] = (size of its subgroup, its number there, lane of the subgroup's first invocation, sum of 1 over the subgroup)

struct Dims {
    first_group: u32,
    count: u32,
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<u32>>; // (64)

@compute @workgroup_size(64)
fn look(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_size) size: u32,
    @builtin(subgroup_invocation_id) number: u32,
) {
    let first = subgroupBroadcast(lane, 0u);
    let sum = subgroupAdd(1u);
    if (dims.first_group + workgroup.x) * 64u + lane < dims.count {
        y[lane] = vec4(size, number, first, sum);
    }
}
