use super::*;
use crate::files::Detail;
use crate::manifest::Manifest;
use crate::signature::{Signature, TensorSpec};
use crate::{Files, Repository, ScanResult};
use ::image::{ImageFormat, Rgb, RgbImage};
use std::io::Cursor;
use testkit::Folder;
use types::tensor::{Datatype, Tensor, Tensors};

fn spec(name: &str, datatype: Datatype, shape: &[i64]) -> TensorSpec {
    TensorSpec::new(name, vec![datatype], shape.to_vec())
}

fn graph(input: TensorSpec, outputs: &[TensorSpec]) -> Signature {
    Signature { inputs: vec![input], outputs: outputs.to_vec(), ..Signature::default() }
}

/// The steps around a graph by the tables of `model.toml`; `characters.txt` holds a, b and c.
fn around(tables: &str, graph: &Signature) -> Result<Around, Detail> {
    let folder = Folder::new();
    folder.write("characters.txt", b"a\nb\nc\n");
    let files = Files::open(folder.path()).unwrap();
    let text = format!("kind = \"onnx\"\nlabels = [\"cat\", \"dog\"]\n{tables}");
    let manifest = Manifest::parse("m/model.toml", text.as_bytes())?;
    manifest.pipeline.check(graph, &manifest.labels, &files)
}

fn sent(name: &str, file: &[u8]) -> Tensors {
    let length = u32::try_from(file.len()).unwrap();
    let data = [&length.to_le_bytes(), file].concat();
    Tensors(vec![Tensor::new(name, Datatype::Bytes, vec![1, 1], data.into()).unwrap()])
}

fn numbers(tensors: &Tensors, name: &str) -> Vec<f32> {
    let tensor = tensors.get(name).unwrap();
    tensor.data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn words(tensors: &Tensors, name: &str) -> Vec<String> {
    let mut rest: &[u8] = &tensors.get(name).unwrap().data;
    let mut words = Vec::new();
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let (word, behind) = behind.split_at(u32::from_le_bytes(*length) as usize);
        words.push(String::from_utf8(word.to_vec()).unwrap());
        rest = behind;
    }
    words
}

fn outputs(name: &str, shape: &[usize], values: &[f32]) -> Tensors {
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let shape = [&[1], shape].concat();
    Tensors(vec![Tensor::new(name, Datatype::Fp32, shape, data.into()).unwrap()])
}

/// An image with a red left half and a blue right half.
fn png(width: u32, height: u32) -> Vec<u8> {
    let pixel = |x, _| if x < width / 2 { Rgb([255, 0, 0]) } else { Rgb([0, 0, 255]) };
    let mut file = Cursor::new(Vec::new());
    RgbImage::from_fn(width, height, pixel).write_to(&mut file, ImageFormat::Png).unwrap();
    file.into_inner()
}

const IMAGE: &str = "[preprocess.image]\nwidth = 2\nheight = 1\nfilter = \"nearest\"\n";

fn image_graph() -> Signature {
    let input = spec("x", Datatype::Fp32, &[3, -1, -1]);
    graph(input, &[spec("y", Datatype::Fp32, &[-1])])
}

fn prepared(tables: &str, file: &[u8]) -> (Vec<usize>, Vec<f32>) {
    let around = around(tables, &image_graph()).unwrap();
    assert_eq!(around.interface.inputs, [spec("image", Datatype::Bytes, &[1])]);
    let (inputs, _) = around.prepare(&sent("image", file), None, &mut |_| true).unwrap();
    (inputs.get("x").unwrap().shape.clone(), numbers(&inputs, "x"))
}

#[test]
fn images_become_planes_of_numbers() {
    let (shape, values) = prepared(IMAGE, &png(8, 4));
    assert_eq!((shape, values), (vec![1, 3, 1, 2], vec![1.0, 0.0, 0.0, 0.0, 0.0, 1.0]));
    let bgr = format!("{IMAGE}channels = \"bgr\"\nmean = [0.5]\nstd = [0.5]\n");
    assert_eq!(prepared(&bgr, &png(8, 4)).1, [-1.0, 1.0, -1.0, -1.0, 1.0, -1.0]);
}

#[test]
fn missing_sizes_follow_the_given_ones() {
    let shape = |tables: &str, (w, h)| prepared(tables, &png(w, h)).0;
    let line = "[preprocess.image]\nheight = 10\nwidth_min = 32\nmultiple_of = 8\n";
    assert_eq!(shape(line, (30, 20)), [1, 3, 10, 32]);
    assert_eq!(shape(line, (90, 20)), [1, 3, 10, 48]);
    let page = "[preprocess.image]\nlongest = [64, 128]\nmultiple_of = 32\n";
    assert_eq!(shape(page, (32, 16)), [1, 3, 32, 64]);
    assert_eq!(shape(page, (256, 130)), [1, 3, 64, 128]);
    assert_eq!(shape("[preprocess.image]\n", (7, 5)), [1, 3, 5, 7]);
    for fit in ["cover", "contain"] {
        let both = format!("[preprocess.image]\nwidth = 6\nheight = 4\nfit = \"{fit}\"\n");
        assert_eq!(shape(&both, (9, 3)), [1, 3, 4, 6]);
    }
}

#[test]
fn files_that_are_not_images_are_rejected() {
    let around = around(IMAGE, &image_graph()).unwrap();
    let error = |file: &[u8]| {
        around.prepare(&sent("image", file), None, &mut |_| true).unwrap_err().to_string()
    };
    assert!(error(b"").contains("not a PNG"), "{}", error(b""));
    assert!(error(b"hello").contains("not a PNG"));
    let mut cut = png(8, 4);
    cut.truncate(40);
    assert!(error(&cut).contains("failed to read"), "{}", error(&cut));
    // A header that declares 60000 x 60000 pixels.
    let mut bomb = png(8, 4);
    bomb[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    assert!(matches!(
        around.prepare(&sent("image", &bomb), None, &mut |_| true),
        Err(BadRow::Input(_))
    ));
}

#[test]
fn truncated_and_changed_images_never_panic() {
    let around = around(IMAGE, &image_graph()).unwrap();
    let whole = png(16, 16);
    for at in 0..whole.len() {
        let _ = around.prepare(&sent("image", &whole[..at]), None, &mut |_| true);
        let mut spoilt = whole.clone();
        spoilt[at] ^= 0x5a;
        let _ = around.prepare(&sent("image", &spoilt), None, &mut |_| true);
    }
}

#[test]
fn files_become_windows() {
    let input = spec("bytes", Datatype::Int32, &[7]);
    let graph = graph(input, &[spec("y", Datatype::Fp32, &[2])]);
    let tables = "[preprocess.bytes]\nhead = 4\ntail = 3\npadding = 256\nstrip = 16\n";
    let around = around(tables, &graph).unwrap();
    let window = |file: &[u8]| {
        let (inputs, facts) = around.prepare(&sent("bytes", file), None, &mut |_| true).unwrap();
        assert_eq!(facts, file.is_empty().then_some(SentFacts::Empty));
        let data = &inputs.get("bytes").unwrap().data;
        let all = data.as_chunks::<4>().0.iter().map(|bytes| i32::from_le_bytes(*bytes));
        all.collect::<Vec<_>>()
    };
    assert_eq!(window(b" \n12345\t"), [49, 50, 51, 52, 51, 52, 53]);
    assert_eq!(window(b"1"), [49, 256, 256, 256, 256, 256, 49]);
    assert_eq!(window(b""), [256; 7]);
}

#[test]
fn recordings_become_samples_and_frames() {
    let graph = |shape: &[i64]| {
        let mut graph = graph(spec("x", Datatype::Fp32, shape), &[spec("y", Datatype::Fp32, &[1])]);
        graph.inputs.push(spec("h", Datatype::Fp32, &[2]));
        graph
    };
    let frames = "[preprocess]\nzeros = [\"h\"]\n[preprocess.audio]\nrate = 8000\nframe = 2\n\
                  context = 1\n";
    let framed = around(frames, &graph(&[-1, 3])).unwrap();
    let pcm: Vec<u8> = [16384i16, -16384, 8192].iter().flat_map(|s| s.to_le_bytes()).collect();
    let (inputs, _) = framed.prepare(&sent("audio", &pcm), None, &mut |_| true).unwrap();
    assert_eq!(inputs.get("x").unwrap().shape, [1, 2, 3]);
    assert_eq!(numbers(&inputs, "x"), [0.0, 0.5, -0.5, -0.5, 0.25, 0.0]);
    assert_eq!(numbers(&inputs, "h"), [0.0, 0.0]);
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: 8000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut wav = Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut wav, spec).unwrap();
    [16384i16, 0, -16384, -16384].iter().for_each(|s| writer.write_sample(*s).unwrap());
    writer.finalize().unwrap();
    let plain = frames.replace("frame = 2\ncontext = 1\n", "");
    let plain = around(&plain, &graph(&[-1])).unwrap();
    let (inputs, _) = plain.prepare(&sent("audio", wav.get_ref()), None, &mut |_| true).unwrap();
    assert_eq!(numbers(&inputs, "x"), [0.25, -0.5]);
    for at in 0..wav.get_ref().len() {
        let _ = plain.prepare(&sent("audio", &wav.get_ref()[..at]), None, &mut |_| true);
    }
}

#[test]
fn classes_are_named_and_sorted() {
    let graph = graph(spec("x", Datatype::Fp32, &[1]), &[spec("y", Datatype::Fp32, &[3])]);
    let tables = "[postprocess.classes]\ntop = 2\nactivation = \"softmax\"\n";
    let around = around(tables, &graph).unwrap();
    let read = around.read(outputs("y", &[3], &[0.0, 0.0, f32::ln(2.0)]), None).unwrap();
    assert_eq!(words(&read, "label"), ["2", "cat"]);
    assert_eq!(numbers(&read, "score"), [0.5, 0.25]);
}

#[test]
fn empty_file_has_its_own_class() {
    let graph = graph(spec("x", Datatype::Fp32, &[4]), &[spec("y", Datatype::Fp32, &[3])]);
    let tables = "[preprocess.bytes]\nhead = 4\n[postprocess.classes]\ntop = 2\nempty = \"none\"\n";
    let around = around(tables, &graph).unwrap();
    let read = |file: &[u8]| {
        let (_, facts) = around.prepare(&sent("bytes", file), None, &mut |_| true).unwrap();
        around.read(outputs("y", &[3], &[0.1, 0.2, 0.7]), facts).unwrap()
    };
    let empty = read(b"");
    assert_eq!(words(&empty, "label"), ["none", "2"]);
    assert_eq!(numbers(&empty, "score"), [1.0, 0.0]);
    assert_eq!(numbers(&read(b" "), "score"), [0.7, 0.2]);
}

#[test]
fn text_is_the_best_path_without_blanks_and_repetitions() {
    let graph = graph(spec("x", Datatype::Fp32, &[1]), &[spec("y", Datatype::Fp32, &[-1, 5])]);
    let tables = "[postprocess.text]\ncharacters = \"characters.txt\"\nspace = true\n";
    let around = around(tables, &graph).unwrap();
    let mut scores = Vec::new();
    for class in [1, 1, 0, 1, 4, 3] {
        scores.extend((0..5).map(|other| if other == class { 0.8 } else { 0.05 }));
    }
    let read = around.read(outputs("y", &[6, 5], &scores), None).unwrap();
    assert_eq!(words(&read, "text"), ["aa c"]);
    let wrong = around.read(outputs("y", &[2, 3], &[0.0; 6]), None).unwrap_err();
    assert!(wrong.to_string().contains("5 characters"), "{wrong}");
}

#[test]
fn boxes_are_in_pixels_of_the_sent_image() {
    let outs = [spec("b", Datatype::Fp32, &[-1, 4]), spec("s", Datatype::Fp32, &[-1, 2])];
    let graph = graph(spec("x", Datatype::Fp32, &[3, 8, 8]), &outs);
    let tables = "[preprocess.image]\nwidth = 8\nheight = 8\nfit = \"contain\"\n\
                  [postprocess.boxes]\nboxes = \"b\"\nscores = \"s\"\nformat = \"cxcywh\"\n";
    let around = around(tables, &graph).unwrap();
    let (_, frame) = around.prepare(&sent("image", &png(16, 8)), None, &mut |_| true).unwrap();
    // Two boxes that overlap, a weak one, one of another class.
    let places = [4.0, 4.0, 2.0, 2.0, 4.0, 4.1, 2.0, 2.0, 1.0, 4.0, 1.0, 1.0, 4.0, 4.0, 8.0, 4.0];
    let mut all = outputs("b", &[4, 4], &places);
    all.0.extend(outputs("s", &[4, 2], &[0.9, 0.0, 0.8, 0.0, 0.1, 0.0, 0.0, 0.7]).0);
    let read = around.read(all, frame).unwrap();
    assert_eq!(words(&read, "label"), ["cat", "dog"]);
    assert_eq!(numbers(&read, "score"), [0.9, 0.7]);
    assert_eq!(numbers(&read, "box"), [6.0, 2.0, 10.0, 6.0, 0.0, 0.0, 16.0, 8.0]);
}

#[test]
fn regions_are_found_grown_and_read_in_order() {
    let out = [spec("y", Datatype::Fp32, &[1, -1, -1])];
    let graph = graph(spec("x", Datatype::Fp32, &[3, -1, -1]), &out);
    let tables = "[preprocess.image]\n[postprocess.regions]\n";
    let around = around(tables, &graph).unwrap();
    let (_, frame) = around.prepare(&sent("image", &png(64, 40)), None, &mut |_| true).unwrap();
    let mut map = vec![0.0f32; 64 * 40];
    let mut fill = |(x0, x1), (y0, y1): (usize, usize)| {
        (y0..y1).for_each(|y| map[y * 64 + x0..y * 64 + x1].fill(0.9));
    };
    fill((40, 56), (10, 16));
    fill((8, 24), (11, 17));
    fill((8, 50), (28, 33));
    fill((60, 61), (1, 2));
    let read = around.read(outputs("y", &[1, 40, 64], &map), frame).unwrap();
    let polygons = numbers(&read, "polygon");
    assert_eq!(read.get("polygon").unwrap().shape, [1, 3, 4, 2]);
    // Left before right, then the line below; each larger than in the map.
    let lefts: Vec<f32> = polygons.chunks(8).map(|corners| corners[0].round()).collect();
    assert_eq!(lefts, [5.0, 37.0, 5.0]);
    assert!(numbers(&read, "score").iter().all(|score| *score > 0.7));
    // An empty map is not an error.
    let none = around.read(outputs("y", &[1, 4, 4], &[0.0; 16]), frame).unwrap();
    assert_eq!(none.get("polygon").unwrap().shape, [1, 0, 4, 2]);
}

#[test]
fn pieces_are_cut_out_and_turned_upright() {
    let picture = Picture::decode(&png(40, 20), &mut |_| true).unwrap();
    let upright = [10.0, 2.0, 30.0, 2.0, 30.0, 12.0, 10.0, 12.0];
    let tall = [15.0, 0.0, 25.0, 0.0, 25.0, 20.0, 15.0, 20.0];
    let flat = [3.0; 8];
    let all = outputs("p", &[3, 4, 2], &[upright, tall, flat].concat());
    let pieces = picture.crops(all.get("p").unwrap(), &mut |_| true).unwrap();
    let sizes: Vec<_> = pieces.iter().map(Picture::size).collect();
    assert_eq!(sizes, [(20, 10), (20, 10), (1, 1)]);
    assert_eq!(pieces[0].0.get_pixel(2, 5).0, [255, 0, 0]);
    assert_eq!(pieces[0].0.get_pixel(17, 5).0, [0, 0, 255]);
    assert!(picture.crops(outputs("p", &[3], &[0.0; 3]).get("p").unwrap(), &mut |_| true).is_err());
    let absurd =
        outputs("p", &[1, 4, 2], &[f32::NAN, 1e30, -1e30, 0.0, f32::INFINITY, 1.0, 2.0, 3.0]);
    assert_eq!(picture.crops(absurd.get("p").unwrap(), &mut |_| true).unwrap().len(), 1);
}

#[track_caller]
fn assert_rejected(tables: &str, words: &str) {
    let error = around(tables, &image_graph()).unwrap_err().to_string();
    assert!(error.contains(words), "{error}");
}

#[test]
fn every_error_in_the_tables_names_its_field() {
    assert_rejected("[preprocess]\n", "needs one of the tables image, bytes and audio");
    assert_rejected("[preprocess.image]\nwidht = 3\n", "unknown field `widht`");
    assert_rejected("[preprocess.image]\nwidth = 3\n", "width: needs height");
    assert_rejected("[preprocess.image]\ninput = \"z\"\n", "the graph has no 'z', but x");
    assert_rejected("[preprocess.image]\nheight = 0\n", "an edge of 0 pixels");
    assert_rejected("[preprocess.image]\nheight = 99999\n", "an edge of 99999 pixels");
    assert_rejected("[preprocess.image]\nlongest = [5, 3]\n", "longest: 5 is more than 3");
    assert_rejected("[preprocess.image]\nchannels = \"grey\"\n", "has shape [3, -1, -1]");
    assert_rejected(
        "[preprocess.image]\nlayout = \"hwc\"\nchannels = \"grey\"\n",
        "has shape [3, -1, -1]",
    );
    assert_rejected("[preprocess.image]\nstd = [0.0]\n", "std not 0");
    assert_rejected("[preprocess.image]\nmean = [1.0, 2.0]\n", "mean: give one number");
    assert_rejected("[preprocess.bytes]\nhead = 0\n", "head + tail");
    assert_rejected("[preprocess.bytes]\nhead = 3\n", "does not fit 'x'");
    assert_rejected("[preprocess.audio]\nrate = 0\n", "rate: 0 Hz");
    assert_rejected("[preprocess.audio]\nrate = 8000\n", "'x' has shape");
    assert_rejected("[preprocess]\nzeros = [\"x\"]\n[preprocess.image]\n", "has no fixed size");
    assert_rejected("[postprocess]\n", "needs one of the tables classes, text, boxes and regions");
    assert_rejected("[postprocess.boxes]\n", "add [preprocess.image]");
    assert_rejected(
        "[preprocess.image]\n[postprocess.boxes]\nboxes = \"y\"\n",
        "both boxes and scores",
    );
    assert_rejected("[postprocess.text]\ncharacters = \"none.txt\"\n", "characters: none.txt");
    assert_rejected("[postprocess.text]\ncharacters = \"../x\"\n", "not a safe file name");
    assert_rejected(
        "[postprocess.text]\ncharacters = \"characters.txt\"\nblank = 9\n",
        "class 9 does not exist",
    );
}

#[test]
fn steps_of_an_ensemble_must_be_connected() {
    let head = "kind = \"ensemble\"\n[[inputs]]\nname = \"image\"\ndatatype = \"BYTES\"\n\
                shape = [1]\n[[outputs]]\nname = \"y\"\ndatatype = \"FP32\"\nshape = [1]\n";
    let step = "[[steps]]\nmodel = \"a\"\ninputs = { x = \"image\" }\noutputs = { o = \"y\" }\n";
    let folder = Folder::new();
    let scan = |text: String| {
        folder.write("chain/model.toml", text.as_bytes());
        match Repository::open(folder.path()).unwrap().scan(&[]).remove(0) {
            ScanResult::Good(info) => Ok(info),
            ScanResult::Bad(bad) => Err(bad.error),
        }
    };
    let info = scan(format!("{head}{step}")).unwrap();
    assert_eq!(info.ensemble().unwrap().models().collect::<Vec<_>>(), ["a"]);
    let error = |text: String| scan(text).unwrap_err();
    assert!(error(head.to_owned()).contains("an ensemble needs [[steps]]"));
    let unknown = step.replace("\"image\"", "\"z\"");
    assert!(
        error(format!("{head}{unknown}")).contains("steps: 1: no earlier step gives the value 'z'")
    );
    let other = step.replace("\"y\"", "\"z\"");
    assert!(error(format!("{head}{other}")).contains("outputs: no step gives 'y'"));
    assert!(error(format!("{head}[[steps]]\nmodel = \"a\"\n")).contains("a step needs model"));
    assert!(
        error(format!("{head}{step}[preprocess.image]\n"))
            .contains("an ensemble has no preprocess")
    );
    let plain = head.replace("ensemble", "identity");
    assert!(error(format!("{plain}{step}")).contains("other kinds must not have them"));
}

#[test]
fn one_piece_of_several_keeps_the_axis_of_pieces() {
    let row = |values: &[u8]| {
        Tensor::new("y", Datatype::Uint8, vec![1, values.len()], values.to_vec().into()).unwrap()
    };
    let vector = spec("y", Datatype::Uint8, &[3]);
    let shape = |rows: &[Tensor]| ensemble::gather(&vector, "y", rows, true).unwrap().shape;
    assert_eq!(shape(&[]), [1, 0, 3]);
    assert_eq!(shape(&[row(&[1, 2, 3])]), [1, 1, 3]);
    assert_eq!(shape(&[row(&[1, 2, 3]), row(&[4, 5, 6])]), [1, 2, 3]);
    assert_eq!(shape(&[row(&[1])]), [1, 1], "answers of one number have no further axis");
    let only = row(&[1, 2, 3]);
    let alone = ensemble::gather(&vector, "y", std::slice::from_ref(&only), false).unwrap();
    assert_eq!(alone, only, "the answer to a single request is unchanged");
}

/// The bytes that were charged, and the outcome within a bound.
fn charged<T>(
    max: usize,
    work: impl FnOnce(&mut Budget<'_>) -> Result<T, BadRow>,
) -> (usize, Result<T, BadRow>) {
    let mut used = 0usize;
    let mut budget = |bytes: usize| {
        used = used.saturating_add(bytes);
        used <= max
    };
    let done = work(&mut budget);
    (used, done)
}

#[test]
fn images_are_charged_before_they_are_decoded() {
    let (used, picture) = charged(usize::MAX, |budget| Picture::decode(&png(640, 480), budget));
    assert!(used >= picture.unwrap().bytes(), "{used}");
    let (_, refused) = charged(used - 1, |budget| Picture::decode(&png(640, 480), budget));
    assert_eq!(refused.unwrap_err(), BadRow::Memory);
    // The memory for preparing is charged too.
    let around = around(IMAGE, &image_graph()).unwrap();
    let file = sent("image", &png(640, 480));
    let (prepared, outcome) = charged(used, |budget| around.prepare(&file, None, budget));
    assert!(prepared > used && outcome == Err(BadRow::Memory), "{prepared} {outcome:?}");
}

#[test]
fn pieces_of_an_image_are_charged() {
    let picture = Picture::decode(&png(40, 20), &mut |_| true).unwrap();
    let corners = outputs("p", &[1, 4, 2], &[0.0, 0.0, 40.0, 0.0, 40.0, 20.0, 0.0, 20.0]);
    let corners = corners.get("p").unwrap();
    let (used, pieces) = charged(usize::MAX, |budget| picture.crops(corners, budget));
    assert!(used >= pieces.unwrap()[0].bytes(), "{used}");
    let (_, refused) = charged(used - 1, |budget| picture.crops(corners, budget));
    assert_eq!(refused.unwrap_err(), BadRow::Memory);
}

#[test]
fn recordings_are_charged_before_they_are_decoded() {
    let input = spec("x", Datatype::Fp32, &[-1]);
    let graph = graph(input, &[spec("y", Datatype::Fp32, &[-1])]);
    let around = around("[preprocess.audio]\nrate = 8000\n", &graph).unwrap();
    let file = sent("audio", &[0; 2000]);
    let (used, outcome) = charged(usize::MAX, |budget| around.prepare(&file, None, budget));
    // The samples, and the tensor of them.
    assert_eq!((used, outcome.is_ok()), (8000, true));
    let (_, refused) = charged(used - 1, |budget| around.prepare(&file, None, budget));
    assert_eq!(refused.unwrap_err(), BadRow::Memory);
}

#[test]
fn images_of_too_many_bytes_are_rejected_by_their_header() {
    // 8192 x 6000 pixels of four channels with 16 bits each.
    let mut file = png(8, 4);
    file[16..26].copy_from_slice(&[0, 0, 0x20, 0, 0, 0, 0x17, 0x70, 16, 6]);
    let mut crc = flate2::Crc::new();
    crc.update(&file[12..29]);
    file[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    let (used, refused) = charged(usize::MAX, |budget| Picture::decode(&file, budget));
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("send 8 bits for each of three channels"), "{error}");
    assert!(used < 8 << 20, "{used}");
}
