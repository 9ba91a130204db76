// Used by src/kinds/normalise.rs: bytes 0..255 as floats 0..1, four of them to a word.
//
// WGSL has no bytes: word i holds pixels 4i..4i+3, the first in its lowest bits. All bindings are
// read_write because burn binds the buffers of hand-written kernels so.

@group(0) @binding(0) var<storage, read_write> words: array<u32>;
@group(0) @binding(1) var<storage, read_write> pixels: array<vec4<f32>>;

const WORKGROUP: u32 = 64u;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let at = id.y * groups.x * WORKGROUP + id.x;
    // burn switches the driver's own bounds checks off.
    if at < min(arrayLength(&words), arrayLength(&pixels)) {
        pixels[at] = unpack4x8unorm(words[at]);
    }
}
