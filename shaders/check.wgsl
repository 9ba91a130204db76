// Known-answer kernels for src/device/check.rs, which works out the same answers on the host.

@group(0) @binding(0) var<storage, read> input: array<u32>;
@group(0) @binding(1) var<storage, read_write> output: array<u32>;
// The atomics kernel sees the output buffer as counters.
@group(0) @binding(1) var<storage, read_write> counters: array<atomic<u32>>;

const LANES = 256u;
const TILE = 16u;
const SIDE = 64u;

// Steps of the Collatz sequence: lanes of one workgroup leave this loop at different times.
fn collatz_steps(start: u32) -> u32 {
    var value = start;
    var steps = 0u;
    while (value > 1u && steps < 300u) {
        if (value % 2u == 0u) {
            value = value / 2u;
        } else {
            value = 3u * value + 1u;
        }
        steps += 1u;
    }
    return steps;
}

@compute @workgroup_size(256)
fn integers(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x;
    let x = input[i];
    var hash = x * 2654435761u + 12345u;
    hash ^= hash >> 15u;
    hash = (hash << 7u) | (hash >> 25u);
    hash += countOneBits(x) * 65599u + reverseBits(x);
    hash ^= (x / (i + 1u)) ^ (x % (i + 3u));
    let signed_hash = bitcast<i32>(hash);
    let mixed = abs(signed_hash / 7) - (signed_hash >> 3u);
    output[2u * i] = hash;
    output[2u * i + 1u] = bitcast<u32>(mixed) + collatz_steps((x & 0xffffu) | 1u);
}

// The remainder has the sign of the left operand. A kernel of its own, because the GLSL that
// naga 30 writes leaves it to the driver, and Mesa's GL gets it wrong.
@compute @workgroup_size(256)
fn signed_remainder(@builtin(global_invocation_id) id: vec3<u32>) {
    output[id.x] = bitcast<u32>(bitcast<i32>(input[id.x]) % 11);
}

// Every step is exact in f32, so rounding and fused multiply-adds cannot excuse a difference.
@compute @workgroup_size(256)
fn floats_exact(@builtin(global_invocation_id) id: vec3<u32>) {
    let v = f32(input[id.x] & 1023u) * 0.25;
    let square = fma(v, v, 1.0) - 3.5 * v;
    let turned = dot(vec4<f32>(v, 1.0, 2.0, -v), vec4<f32>(1.0, v, 0.5, 2.0));
    let whole = f32(i32(v)) + floor(-v) + max(v, 8.0) + clamp(v, 1.0, 2.0);
    output[2u * id.x] = bitcast<u32>(square);
    output[2u * id.x + 1u] = bitcast<u32>(turned + whole);
}

// The functions of activations and norms of a network.
@compute @workgroup_size(256)
fn floats_near(@builtin(global_invocation_id) id: vec3<u32>) {
    let v = f32(input[id.x] & 1023u) * 0.25;
    output[2u * id.x] = bitcast<u32>(sqrt(v) + log(v + 1.0) + inverseSqrt(v + 0.5));
    output[2u * id.x + 1u] = bitcast<u32>(exp(v / -64.0) + 1.0 / (v + 3.0) + pow(v + 1.0, 0.25));
}

var<workgroup> lanes: array<u32, LANES>;

// Inclusive prefix sums within each workgroup.
@compute @workgroup_size(256)
fn prefix_sums(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    lanes[lane] = input[id.x];
    workgroupBarrier();
    for (var stride = 1u; stride < LANES; stride *= 2u) {
        var before = 0u;
        if (lane >= stride) {
            before = lanes[lane - stride];
        }
        workgroupBarrier();
        lanes[lane] += before;
        workgroupBarrier();
    }
    output[id.x] = lanes[lane];
}

var<workgroup> group_sum: atomic<u32>;

// Counters 0..64: how often; 64..72: largest; 72: parity; 73: sum gathered per workgroup.
@compute @workgroup_size(256)
fn atomics(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let x = input[id.x];
    atomicAdd(&counters[x % 64u], 1u);
    atomicMax(&counters[64u + x % 8u], x);
    atomicXor(&counters[72], x);
    atomicAdd(&group_sum, x & 255u);
    workgroupBarrier();
    if (lane == 0u) {
        atomicAdd(&counters[73], atomicLoad(&group_sum));
    }
}

var<workgroup> tile_a: array<f32, LANES>;
var<workgroup> tile_b: array<f32, LANES>;

fn small_number(x: u32) -> f32 {
    return f32(x & 15u) - 8.0;
}

// Product of two 64x64 matrices of small whole numbers, tile by tile: the memory pattern of a
// matrix multiplication, and exact.
@compute @workgroup_size(256)
fn tiles(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tiles_across = SIDE / TILE;
    let row = (group.x / tiles_across) * TILE + lane / TILE;
    let column = (group.x % tiles_across) * TILE + lane % TILE;
    var sum = 0.0;
    for (var tile = 0u; tile < tiles_across; tile += 1u) {
        let a = row * SIDE + tile * TILE + lane % TILE;
        let b = (tile * TILE + lane / TILE) * SIDE + column;
        tile_a[lane] = small_number(input[a]);
        tile_b[lane] = small_number(input[SIDE * SIDE - 1u - b]);
        workgroupBarrier();
        for (var k = 0u; k < TILE; k += 1u) {
            let left = tile_a[(lane / TILE) * TILE + k];
            sum = fma(left, tile_b[k * TILE + lane % TILE], sum);
        }
        workgroupBarrier();
    }
    output[row * SIDE + column] = bitcast<u32>(sum);
}
