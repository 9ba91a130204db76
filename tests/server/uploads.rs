use std::fs;
use std::io::Write;
use testkit::http::{Connection, request};
use testkit::{Folder, Server, Setup, models};

/// The number of corrupted files that are sent.
const UPLOADS: usize = 2000;
/// Growth of resident memory that does not count as a leak: buffers of connections and threads, in
/// bytes.
const GROWTH_BYTES: u64 = 60_000_000;

/// Adds two models that return decoded images and recordings.
fn add_readers(repository: &Folder) {
    for (name, shape, table) in [
        ("picture", "[3, 8, 8]", "[preprocess.image]\nwidth = 8\nheight = 8\n"),
        ("recording", "[-1]", "[preprocess.audio]\nrate = 16000\n"),
    ] {
        let tensor =
            |name: &str| format!("name = \"{name}\"\ndatatype = \"FP32\"\nshape = {shape}\n");
        let (input, output) = (tensor("x"), tensor("y"));
        let text = format!("kind = \"identity\"\n[[inputs]]\n{input}[[outputs]]\n{output}{table}");
        repository.write(&format!("{name}/model.toml"), text);
        repository.make_dir(&format!("{name}/1"));
    }
}

fn upload(connection: &mut Connection, model: &str, file: &[u8]) -> (u16, String) {
    let headers = [("content-type", "application/octet-stream")];
    let path = format!("/v2/models/{model}/infer");
    let answer = connection.exchange(&request("POST", &path, &headers, file)).unwrap();
    (answer.status, answer.text().chars().take(200).collect())
}

/// A line of `/proc/PID/status`, in bytes.
fn memory(server: &Server, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|text| text.strip_prefix(line)).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

/// The images and recordings with which fuzzing begins.
fn files() -> Vec<Vec<u8>> {
    let folder = models::package().join("fuzz/corpus/uploads");
    let mut paths: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn corrupted_uploads_are_answered_and_hold_no_memory() {
    let repository = Folder::new();
    add_readers(&repository);
    let server = Setup::cpu().models(repository.path()).start();
    let mut connection = server.connect();
    let (files, mut random) = (files(), 7u64);
    let mut below = |bound: usize| {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % bound.max(1)
    };
    let (mut good, mut bad, mut begun) = (0, 0, 0);
    for at in 0..UPLOADS {
        let mut file = files[below(files.len())].clone();
        for _ in 0..below(4) {
            let spot = below(file.len());
            if let Some(byte) = file.get_mut(spot) {
                *byte = below(256) as u8;
            }
        }
        if below(8) == 0 {
            file.truncate(below(file.len()));
        }
        let model = if at % 2 == 0 || !file.starts_with(b"RIFF") { "picture" } else { "recording" };
        let (status, text) = upload(&mut connection, model, &file);
        assert!(matches!(status, 200 | 413 | 422), "{at}: {status} {text}");
        if status == 200 {
            good += 1
        } else {
            bad += 1
        }
        if at == UPLOADS / 4 {
            begun = memory(&server, "VmRSS:");
        }
    }
    assert!(good > UPLOADS / 10 && bad > UPLOADS / 10, "{good} were good, {bad} were not");
    let grown = memory(&server, "VmRSS:").saturating_sub(begun);
    assert!(grown < GROWTH_BYTES, "{grown} bytes more");
}

/// A PNG file of 8 x 8 pixels with a chunk in front of its pixels.
fn with_chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let chunk = |kind: &[u8; 4], data: &[u8]| {
        let length = u32::try_from(data.len()).unwrap().to_be_bytes();
        let mut crc = flate2::Crc::new();
        crc.update(kind);
        crc.update(data);
        [&length[..], kind, data, &crc.sum().to_be_bytes()].concat()
    };
    let pixels = zlib(&mut [0u8; 8 * 25].as_slice());
    let head = [0, 0, 0, 8, 0, 0, 0, 8, 8, 2, 0, 0, 0];
    let chunks =
        [chunk(b"IHDR", &head), chunk(kind, data), chunk(b"IDAT", &pixels), chunk(b"IEND", b"")];
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunks.concat()].concat()
}

fn zlib(data: &mut dyn std::io::Read) -> Vec<u8> {
    let level = flate2::Compression::fast();
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
    std::io::copy(data, &mut encoder).unwrap();
    encoder.flush().unwrap();
    encoder.finish().unwrap()
}

#[test]
fn decompression_bombs_in_images_are_not_unpacked() {
    let repository = Folder::new();
    add_readers(&repository);
    let server = Setup::cpu().models(repository.path()).start();
    let mut connection = server.connect();
    let (status, text) = upload(&mut connection, "picture", &with_chunk(b"tEXt", b"a\0b"));
    assert_eq!(status, 200, "{text}");
    let before = memory(&server, "VmHWM:");
    let zeros = zlib(&mut std::io::Read::take(std::io::repeat(0), 400 << 20));
    for (kind, head) in
        [(b"iCCP", &b"p\0\0"[..]), (b"zTXt", b"k\0\0"), (b"iTXt", b"k\0\x01\0\0\0"), (b"eXIf", b"")]
    {
        let bomb = with_chunk(kind, &[head, &zeros].concat());
        let (status, text) = upload(&mut connection, "picture", &bomb);
        assert!(matches!(status, 200 | 422), "{status} {text}");
    }
    let grown = memory(&server, "VmHWM:").saturating_sub(before);
    assert!(grown < GROWTH_BYTES, "{grown} bytes more");
}
