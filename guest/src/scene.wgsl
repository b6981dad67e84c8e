// What the model finds alike: a bar for each pair of characters, as high as the cosine between their rows of the embedding table.
//
//   likeness(a, b) = wte[a] · wte[b] / (|wte[a]| |wte[b]|)
//
// The table is the trainer's own buffer, so that the bars move with every update of the weights. A character and
// itself are always alike: the path of light, which has no height.
struct Frame {
    angle: f32,
    aspect: f32,
    characters: u32, // rows of bars
    quads: u32, //      C / 4
}
@group(0) @binding(0) var<uniform> frame: Frame;
@group(0) @binding(1) var<storage, read> wte: array<vec4<f32>>; // (V, C / 4)
@group(0) @binding(2) var<storage, read> order: array<u32>; //     (V), the token of each row of bars

const DISTANCE = 3.6;
const ZOOM = 3.1;
const TILT = 0.68;
const NEAR = 1.0;
const FAR = 8.0;
const BAR = 0.42; //   half a bar's width, in cells
const HEIGHT = 0.55; // of a likeness of 1, where half the plain is 1 wide

fn likeness(a: u32, b: u32) -> f32 {
    var ab = 0.0;
    var aa = 0.0;
    var bb = 0.0;
    for (var i = 0u; i < frame.quads; i++) {
        let x = wte[a * frame.quads + i];
        let y = wte[b * frame.quads + i];
        ab += dot(x, y);
        aa += dot(x, x);
        bb += dot(y, y);
    }
    return ab * inverseSqrt(max(aa * bb, 1e-20));
}

struct Bar {
    @builtin(position) clip: vec4<f32>,
    @location(0) at: vec3<f32>, // seen from above the scene's middle: the eye is at (0, 0, DISTANCE)
    @location(1) up: f32, //       0 at a bar's foot, 1 at its top
    @location(2) @interpolate(flat) likeness: f32,
}

@vertex
fn vertex(@builtin(vertex_index) corner: u32, @builtin(instance_index) pair: u32) -> Bar {
    let cell = vec2(pair % frame.characters, pair / frame.characters);
    let alike = likeness(order[cell.x], order[cell.y]);
    let turn = vec2(cos(frame.angle), sin(frame.angle));
    let eye = DISTANCE * cos(TILT) * vec2(-turn.y, turn.x);

    // Corners are bits: x, up, z. The first three faces are those on the eye's side, and no others can be seen.
    let bits = vec3<f32>(vec3(corner, corner >> 1u, corner >> 2u) & vec3(1u));
    let middle = (vec2<f32>(cell) + 0.5) * 2.0 / f32(frame.characters) - 1.0;
    let outward = select(vec2(-1.0), vec2(1.0), eye > middle);
    let plan = middle + (bits.xz * 2.0 - 1.0) * outward * BAR * 2.0 / f32(frame.characters);
    let height = select(max(alike, 0.0) * HEIGHT, 0.0, cell.x == cell.y);
    let y = bits.y * (height + 0.01) - 0.12;

    let turned = vec2(plan.x * turn.x + plan.y * turn.y, plan.y * turn.x - plan.x * turn.y);
    let at = vec3(turned.x, y * cos(TILT) - turned.y * sin(TILT), y * sin(TILT) + turned.y * cos(TILT));
    let depth = DISTANCE - at.z;
    let fit = ZOOM * min(vec2(1.0), vec2(1.0 / frame.aspect, frame.aspect));
    return Bar(vec4(at.xy * fit, FAR * (depth - NEAR) / (FAR - NEAR), depth), at, bits.y, alike);
}

fn colour(likeness: f32) -> vec3<f32> {
    let night = mix(vec3(0.010, 0.012, 0.040), vec3(0.022, 0.042, 0.105), smoothstep(-0.5, 0.0, likeness));
    let sea = mix(night, vec3(0.020, 0.300, 0.330), smoothstep(0.02, 0.30, likeness));
    let meadow = mix(sea, vec3(0.180, 0.420, 0.130), smoothstep(0.32, 0.46, likeness));
    let sand = mix(meadow, vec3(0.950, 0.430, 0.110), smoothstep(0.42, 0.66, likeness));
    return mix(sand, vec3(1.0, 0.800, 0.480), smoothstep(0.70, 1.0, likeness));
}

const BACKGROUND = vec3<f32>(0.006, 0.008, 0.018);

@fragment
fn fragment(bar: Bar) -> @location(0) vec4<f32> {
    let to_eye = vec3(0.0, 0.0, DISTANCE) - bar.at;
    let across = normalize(cross(dpdx(bar.at), dpdy(bar.at)));
    let normal = across * sign(dot(across, to_eye));
    let light = max(dot(normal, normalize(vec3(-0.45, 0.75, 0.55))), 0.0);
    let shade = mix(0.35, 1.0, bar.up) * (0.25 + 0.95 * light);
    let haze = smoothstep(3.2, 5.6, length(to_eye));
    return vec4(mix(colour(bar.likeness) * shade, BACKGROUND, haze), 1.0);
}
