// Speed kernels for src/device/probe.rs: arithmetic rate and memory copy rate.

@group(0) @binding(0) var<storage, read> rounds: array<u32>;
@group(0) @binding(1) var<storage, read_write> sums: array<vec4<f32>>;

// Eight independent chains of four-wide fused multiply-adds: 64 operations a round and lane,
// enough in flight to hide the latency of one.
@compute @workgroup_size(64)
fn multiply_add(@builtin(global_invocation_id) id: vec3<u32>) {
    let factor = vec4<f32>(0.999, 0.998, 0.997, 0.996);
    let addend = vec4<f32>(f32(id.x & 7u));
    var a = addend;
    var b = addend + 1.0;
    var c = addend + 2.0;
    var d = addend + 3.0;
    var e = addend + 4.0;
    var f = addend + 5.0;
    var g = addend + 6.0;
    var h = addend + 7.0;
    let last = rounds[0];
    for (var round = 0u; round < last; round += 1u) {
        a = fma(a, factor, addend);
        b = fma(b, factor, addend);
        c = fma(c, factor, addend);
        d = fma(d, factor, addend);
        e = fma(e, factor, addend);
        f = fma(f, factor, addend);
        g = fma(g, factor, addend);
        h = fma(h, factor, addend);
    }
    // Storing the sum keeps the compiler from leaving the work out.
    sums[id.x] = a + b + c + d + e + f + g + h;
}

@group(0) @binding(0) var<storage, read> source: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> sink: array<vec4<u32>>;

@compute @workgroup_size(256)
fn copy(@builtin(global_invocation_id) id: vec3<u32>) {
    sink[id.x] = source[id.x];
}
