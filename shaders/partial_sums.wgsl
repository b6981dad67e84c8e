// Adds to a gradient the partial sums that matmul.backward_weight_range leaves, always in the same order.
//
//   add        dweight[i] += Σ_r partials[r, i]
//   add_bias   the same, and dbias[i] += Σ_r partials[r, 4 · quads + i]

struct Dims {
    first_group: u32,
    quads: u32, //  of dweight
    stride: u32, // quads of one range: those of dweight, then those of dbias
    ranges: u32,
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> partials: array<vec4<f32>>; //        (ranges, stride)
@group(0) @binding(2) var<storage, read_write> dweight: array<vec4<f32>>; //   (quads)
@group(0) @binding(3) var<storage, read_write> dbias: array<vec4<f32>>; //     (stride − quads)

const WORKGROUP: u32 = 64u;
const ROWS_PER_GROUP: u32 = 256u; // elements

@compute @workgroup_size(WORKGROUP)
fn add(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (dims.first_group + workgroup.x) * WORKGROUP + local;
    if i < dims.quads {
        dweight[i] += sum_of_ranges(i);
    }
}

@compute @workgroup_size(WORKGROUP)
fn add_bias(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (dims.first_group + workgroup.x) * WORKGROUP + local;
    if i < dims.quads {
        dweight[i] += sum_of_ranges(i);
    } else if i < dims.stride {
        dbias[i - dims.quads] += sum_of_ranges(i);
    }
}

fn sum_of_ranges(i: u32) -> vec4<f32> {
    var sum = vec4(0.0);
    for (var r = 0u; r < dims.ranges; r++) {
        sum += partials[r * dims.stride + i];
    }
    return sum;
}
