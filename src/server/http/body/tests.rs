//! Bodies in pieces, their limits, and content types.

use super::*;
use futures_util::stream;
use std::convert::Infallible;

fn bodies(bytes_max: usize, budget: usize) -> Bodies {
    let (memory, timeout) = (Memory::new(budget), Duration::from_millis(50));
    Bodies { account: memory.of(1), memory, bytes_max, timeout, room: 0 }
}

const HUNDRED: &str = concat!(
    "0123456789012345678901234567890123456789",
    "012345678901234567890123456789012345678901234567890123456789"
);

fn parts(parts: &[&'static str]) -> impl Stream<Item = Result<Bytes, Infallible>> + use<> {
    let parts: Vec<_> = parts.iter().map(|part| Ok(Bytes::from_static(part.as_bytes()))).collect();
    stream::iter(parts)
}

fn header(name: &'static str, value: &str) -> HeaderMap {
    HeaderMap::from_iter([(warp::http::HeaderName::from_static(name), value.parse().unwrap())])
}

#[tokio::test]
async fn bodies_are_joined() {
    let bodies = bodies(10, 100);
    for (pieces, whole) in [(&[][..], ""), (&["abc"][..], "abc"), (&["ab", "", "cd", "e"], "abcde")]
    {
        let body = bodies.collect(&HeaderMap::new(), parts(pieces)).await.unwrap();
        assert_eq!(body.bytes, whole);
    }
}

#[tokio::test]
async fn too_large_bodies_are_rejected_early_and_late() {
    let bodies = bodies(4, 100);
    let early = bodies.collect(&header("content-length", "5"), parts(&[])).await;
    assert_eq!(early.unwrap_err().kind, ErrorKind::TooLarge);
    let late = bodies.collect(&HeaderMap::new(), parts(&["abc", "de"])).await;
    assert_eq!(late.unwrap_err().kind, ErrorKind::TooLarge);
    assert!(bodies.collect(&HeaderMap::new(), parts(&["abc", "d"])).await.is_ok());
    let small = bodies.at_most(3).collect(&HeaderMap::new(), parts(&["abcd"])).await;
    assert_eq!(small.unwrap_err().kind, ErrorKind::TooLarge);
}

#[tokio::test]
async fn slow_bodies_end() {
    let stream = stream::pending::<Result<Bytes, Infallible>>();
    let slow = bodies(4, 100).collect(&HeaderMap::new(), stream).await;
    assert_eq!(slow.unwrap_err().kind, ErrorKind::RequestTimeout);
}

#[tokio::test]
async fn all_bodies_share_one_limit() {
    let bodies = bodies(1000, 2000);
    let others = bodies.memory.of(2).charge(1500).unwrap();
    let first = bodies.collect(&HeaderMap::new(), parts(&[HUNDRED; 6])).await.unwrap_err();
    assert_eq!((first.kind, first.retry_after.is_some()), (ErrorKind::QueueFull, true));
    drop(others);
    let second = bodies.collect(&HeaderMap::new(), parts(&[HUNDRED; 6])).await.unwrap();
    assert_eq!(second.bytes.len(), 600);
    assert!((600..2000).contains(&bodies.memory.used()), "{}", bodies.memory.used());
    let part = second.bytes.slice(10..20);
    drop(second);
    assert!(bodies.memory.used() >= 600);
    drop(part);
    assert_eq!(bodies.memory.used(), 0);
}

#[tokio::test]
async fn declared_bodies_take_no_more_memory_than_has_arrived() {
    let bodies = bodies(1_000_000, 1_000_000);
    let declared = header("content-length", "1000000");
    let body = bodies.collect(&declared, parts(&[HUNDRED; 3])).await.unwrap();
    // The stream ended early, so the rest of the memory is released.
    assert!((300..2000).contains(&bodies.memory.used()), "{}", bodies.memory.used());
    drop(body);
}

#[tokio::test]
async fn files_become_elements_without_a_copy() {
    let bodies = bodies(1000, 2000).as_elements();
    for (pieces, whole) in [(&[][..], ""), (&["abc"][..], "abc"), (&["ab", "", "cd", "e"], "abcde")]
    {
        let body = bodies.collect(&HeaderMap::new(), parts(pieces)).await.unwrap();
        let element = body.element.unwrap();
        assert_eq!(body.bytes, whole);
        assert_eq!(element[..4], (whole.len() as u32).to_le_bytes());
        assert_eq!(element[4..].as_ptr(), body.bytes.as_ptr());
    }
    let packed = compressed(&bodies, gzip(b"abc")).await.unwrap();
    assert_eq!(packed.element.as_deref(), Some(&b"\x03\0\0\0abc"[..]));
    drop(packed);
    assert_eq!(bodies.memory.used(), 0);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

async fn compressed(bodies: &Bodies, body: Vec<u8>) -> Result<Body, Error> {
    let parts = stream::iter([Ok::<_, Infallible>(Bytes::from(body))]);
    bodies.collect(&header("content-encoding", "gzip"), parts).await
}

#[tokio::test]
async fn compressed_bodies_have_the_same_limits() {
    let bodies = bodies(100_000, 400_000);
    let body = compressed(&bodies, gzip(&[b'x'; 100_000])).await.unwrap();
    assert_eq!(body.bytes, [b'x'; 100_000][..]);
    // The decompressed bytes are charged, and the compressed ones are not any longer.
    let used = bodies.memory.used();
    assert!((100_000..200_000).contains(&used), "{used}");
    drop(body);
    let long = compressed(&bodies, gzip(&[b'x'; 100_001])).await.unwrap_err();
    assert_eq!(long.kind, ErrorKind::TooLarge);
    let wrong = compressed(&bodies, b"plain".to_vec()).await.unwrap_err();
    assert_eq!(wrong.kind, ErrorKind::Malformed);
    assert_eq!(bodies.memory.used(), 0);
    let held = bodies.memory.of(2).charge(350_000).unwrap();
    let busy = compressed(&bodies, gzip(&[b'x'; 100_000])).await.unwrap_err();
    assert_eq!(busy.kind, ErrorKind::QueueFull);
    drop(held);
}

#[tokio::test]
async fn bodies_of_other_codings_are_rejected() {
    let bodies = bodies(4, 6);
    let brotli = bodies.collect(&header("content-encoding", "br"), parts(&["x"])).await;
    assert_eq!(brotli.unwrap_err().kind, ErrorKind::UnsupportedMediaType);
    let plain = bodies.collect(&header("content-encoding", "Identity"), parts(&["x"])).await;
    assert!(plain.is_ok());
}

#[test]
fn files_are_distinguished_from_requests() {
    let cases: [(&str, Option<usize>, &[u8], bool); 9] = [
        ("image/png", None, b"\x89PNG", true),
        ("application/octet-stream", None, b"{}", true),
        ("application/octet-stream", Some(2), b"{}", false),
        ("application/octet-stream", Some(0), b"{}", true),
        ("application/x-www-form-urlencoded", None, b"\x89PNG", true),
        ("application/x-www-form-urlencoded", None, b" {}", false),
        ("application/json", None, b"\x89PNG", false),
        ("application/vnd.x+json", None, b"\x89PNG", false),
        ("text/html", None, b"<p>", true),
    ];
    for (given, length, body, file) in cases {
        assert_eq!(is_file(&header("content-type", given), length, body), file, "{given}");
    }
    assert!(is_file(&HeaderMap::new(), None, b"GIF89a"));
    assert!(!is_file(&HeaderMap::new(), None, b"{}"));
    assert!(!is_file(&HeaderMap::new(), None, "\u{feff} {}".as_bytes()));
}

#[test]
fn content_types() {
    let cases = [
        ("application/json", true, true, true),
        ("Application/JSON; charset=utf-8", true, true, true),
        ("application/octet-stream", true, false, false),
        ("application/x-www-form-urlencoded", true, true, false),
        ("text/plain;charset=UTF-8", true, true, false),
        ("application/vnd.sagemaker-triton.binary+json;json-header-size=12", true, true, false),
        ("multipart/form-data; boundary=x", false, false, false),
        ("image/png", false, false, false),
        ("text/html", false, false, false),
    ];
    for (given, inference, lenient, json) in cases {
        let headers = header("content-type", given);
        assert_eq!(check_inference_type(&headers).is_ok(), inference, "{given}");
        assert_eq!(check_lenient_json_type(&headers).is_ok(), lenient, "{given}");
        assert_eq!(check_json_type(&headers).is_ok(), json, "{given}");
    }
    assert!(check_inference_type(&HeaderMap::new()).is_ok());
    assert!(check_json_type(&HeaderMap::new()).is_err());
}
