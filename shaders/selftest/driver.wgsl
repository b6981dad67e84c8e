// Probes of what drivers are known to get wrong. Not kernels: nothing but the self-test runs them.
//
//   trips           y[i] = Σ_k<count x[k mod 64], a loop of `count` trips whose sum no compiler can predict
//   exchange        y[i] = a sum of what other invocations of the workgroup wrote before a barrier, in `count` rounds
//   write_beyond    y[index + i] = 7, beyond the end of y
//   read_beyond     y[i] = x[index + i], beyond the end of x
//   pack            y[i] = the two f16 of (x[2i], x[2i + 1])
//   unpack          (y[2i], y[2i + 1]) = the two f16 of x[i]

struct Dims {
    first_group: u32,
    count: u32,
    index: u32,
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;

const ROWS_PER_GROUP: u32 = 64u;

@compute @workgroup_size(64)
fn trips(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var sum = 0u;
    for (var k = 0u; k < dims.count; k++) {
        sum += x[k & 63u];
    }
    y[(dims.first_group + workgroup.x) * 64u + lane] = sum;
}

var<workgroup> written: array<u32, 64>;

@compute @workgroup_size(64)
fn exchange(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (dims.first_group + workgroup.x) * 64u + lane;
    var sum = x[i];
    for (var k = 0u; k < dims.count; k++) {
        written[lane] = sum;
        workgroupBarrier();
        sum += written[(lane * 7u + k + 1u) & 63u];
        workgroupBarrier();
    }
    y[i] = sum;
}

@compute @workgroup_size(64)
fn write_beyond(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    y[dims.index + (dims.first_group + workgroup.x) * 64u + lane] = 7u;
}

@compute @workgroup_size(64)
fn read_beyond(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (dims.first_group + workgroup.x) * 64u + lane;
    if i < dims.count {
        y[i] = x[dims.index + i];
    }
}

@compute @workgroup_size(64)
fn pack(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (dims.first_group + workgroup.x) * 64u + lane;
    if i < dims.count {
        y[i] = pack2x16float(vec2(bitcast<f32>(x[2u * i]), bitcast<f32>(x[2u * i + 1u])));
    }
}

@compute @workgroup_size(64)
fn unpack(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (dims.first_group + workgroup.x) * 64u + lane;
    if i < dims.count {
        let both = unpack2x16float(x[i]);
        y[2u * i] = bitcast<u32>(both.x);
        y[2u * i + 1u] = bitcast<u32>(both.y);
    }
}
