//! Round trips of bodies, bodies that are malformed, and preferences of clients.

use super::*;
use crate::http::respond::document;
use engine::Memory;
use flate2::write::DeflateEncoder;
use proptest::prelude::*;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, value.parse().unwrap());
    }
    headers
}

fn bare(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn all(coding: Coding, bytes: &[u8]) -> Result<Bytes, Error> {
    let mut whole = Vec::new();
    coding.decompress(bytes, |piece| {
        whole.extend_from_slice(piece);
        Ok(())
    })?;
    Ok(whole.into())
}

fn packed(coding: Coding, bytes: &[u8]) -> Vec<u8> {
    coding.write(bytes, Vec::new()).unwrap()
}

/// Returns a charge that can grow to a number of bytes.
fn held(bytes: usize) -> HeldMemory {
    Memory::new(bytes).of(1).answer()
}

proptest! {
    #[test]
    fn compressed_data_are_decompressed_to_the_original(bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
        for coding in [Coding::Gzip, Coding::Deflate] {
            prop_assert_eq!(all(coding, &packed(coding, &bytes)).unwrap(), bytes.clone());
        }
        prop_assert_eq!(all(Coding::Deflate, &bare(&bytes)).unwrap(), bytes);
    }

    #[test]
    fn other_bytes_are_errors_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = (all(Coding::Gzip, &bytes), all(Coding::Deflate, &bytes));
    }
}

#[test]
fn broken_data_are_malformed() {
    let text = b"some text that is long enough to be cut ".repeat(9);
    for coding in [Coding::Gzip, Coding::Deflate] {
        let whole = packed(coding, &text);
        let behind = [&whole[..], b"more"].concat();
        let mut spoilt = whole.clone();
        *spoilt.last_mut().unwrap() ^= 1;
        for wrong in [&whole[..whole.len() / 2], &b"plain text"[..], b"", &behind, &spoilt] {
            let error = all(coding, wrong).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Malformed, "{coding:?} {wrong:?}");
            let begin = format!("failed to decompress the body as {}", coding.as_str());
            assert!(error.message.starts_with(&begin), "{error}");
        }
    }
    // Members form one body (RFC 1952, section 2.2), up to a maximum number.
    let empty = packed(Coding::Gzip, b"");
    assert_eq!(all(Coding::Gzip, &empty.repeat(MEMBERS_MAX)).unwrap(), "");
    let error = all(Coding::Gzip, &empty.repeat(MEMBERS_MAX + 1)).unwrap_err();
    assert!(error.message.ends_with("more than 16384 members"), "{error}");
    let two = [packed(Coding::Gzip, b"one "), packed(Coding::Gzip, b"two")].concat();
    assert_eq!(all(Coding::Gzip, &two).unwrap(), "one two");
}

#[test]
fn bodies_are_decompressed_piece_by_piece() {
    let bomb = packed(Coding::Gzip, &vec![0; 64 << 20]);
    let (mut most, mut pieces) = (0, 0);
    let take = |piece: &[u8]| {
        (most, pieces) = (piece.len().max(most), pieces + 1);
        if pieces < 4 { Ok(()) } else { Err(Error::new(ErrorKind::TooLarge, "enough")) }
    };
    let refused = Coding::Gzip.decompress(&bomb, take).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::TooLarge);
    assert!(most <= PIECE_BYTES && pieces == 4, "{most} {pieces}");
}

#[test]
fn codings_of_requests() {
    let of = |values: &[&str]| {
        let pairs: Vec<_> = values.iter().map(|value| ("content-encoding", *value)).collect();
        Coding::of_request(&headers(&pairs))
    };
    for plain in [&[][..], &["identity"], &["Identity, "], &[""]] {
        assert_eq!(of(plain), Ok(None), "{plain:?}");
    }
    for gzip in ["gzip", "GZIP", " x-gzip ", "identity, gzip"] {
        assert_eq!(of(&[gzip]), Ok(Some(Coding::Gzip)), "{gzip}");
    }
    assert_eq!(of(&["deflate"]), Ok(Some(Coding::Deflate)));
    for wrong in [&["br"][..], &["gzip, gzip"], &["gzip", "deflate"], &["gzip, br"], &["zstd"]] {
        let error = of(wrong).unwrap_err();
        assert!(error.message.contains(&format!("'{}'", wrong.join(", "))), "{error}");
        assert_eq!(error.kind, ErrorKind::UnsupportedMediaType);
        assert!(error.message.contains("send one of gzip, deflate"), "{error}");
    }
}

#[test]
fn preferences_of_clients() {
    let (gzip, deflate) = (Some(Coding::Gzip), Some(Coding::Deflate));
    for (value, expected) in [
        ("gzip", gzip),
        ("deflate", deflate),
        ("gzip, deflate, br, zstd", gzip),
        ("deflate, gzip", gzip),
        ("gzip;q=0.5, deflate;q=0.8", deflate),
        ("gzip; q=0.5,deflate ;q = 0.5", gzip),
        ("*", gzip),
        ("*;q=0.1, gzip;q=0", deflate),
        ("GZIP;Q=1.0", gzip),
        ("identity;q=0.5, gzip;q=0.4", None),
        ("identity;q=0.5, gzip;q=0.5", gzip),
        ("br", None),
        ("identity", None),
        ("", None),
        ("gzip;q=0", None),
        ("*;q=0", None),
        ("gzip;q=2", None),
        ("gzip;q=nan", None),
        ("gzip;level=1", None),
    ] {
        assert_eq!(accepted(&headers(&[("accept-encoding", value)])), expected, "{value}");
    }
    assert_eq!(accepted(&HeaderMap::new()), None);
    let two = headers(&[("accept-encoding", "br"), ("accept-encoding", "deflate")]);
    assert_eq!(accepted(&two), deflate);
}

async fn answered(coding: Option<Coding>, body: Vec<u8>) -> (HeaderMap, Bytes) {
    let response = compressed(coding, document("text/plain", body.into()), held(1 << 22)).await;
    let (head, body) = response.into_parts();
    (head.headers, body.collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn long_answers_are_compressed() {
    for length in [COMPRESSED_BYTES_MIN, 1 << 20] {
        for coding in [Coding::Gzip, Coding::Deflate] {
            let (headers, body) = answered(Some(coding), vec![b'x'; length]).await;
            assert_eq!(headers[CONTENT_ENCODING], coding.as_str());
            assert_eq!(headers[VARY], "accept-encoding");
            assert!(body.len() < length / 10);
            assert_eq!(all(coding, &body).unwrap().len(), length);
        }
    }
    let (headers, body) = answered(None, vec![b'x'; COMPRESSED_BYTES_MIN]).await;
    assert!(headers.contains_key(VARY) && !headers.contains_key(CONTENT_ENCODING));
    assert_eq!(body.len(), COMPRESSED_BYTES_MIN);
}

/// Returns 100 000 numbers from 0 to 1 with random digits, from a linear congruential generator.
fn numbers() -> Vec<f32> {
    let mut state = 1_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    std::iter::repeat_with(next).take(100_000).collect()
}

#[tokio::test]
async fn json_is_compressed_and_raw_floats_are_not() {
    let numbers = numbers();
    let (headers, body) = answered(Some(Coding::Gzip), serde_json::to_vec(&numbers).unwrap()).await;
    assert_eq!(headers[CONTENT_ENCODING], "gzip");
    assert!(body.len() < 700_000, "{}", body.len());
    let raw: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let (headers, body) = answered(Some(Coding::Gzip), raw.clone()).await;
    assert!(!headers.contains_key(CONTENT_ENCODING) && headers.contains_key(VARY));
    assert_eq!(body, raw);
    let zeros = answered(Some(Coding::Gzip), vec![0; raw.len()]).await;
    assert_eq!(zeros.0[CONTENT_ENCODING], "gzip");
}

#[tokio::test]
async fn incompressible_answers_are_not_changed() {
    let (headers, _) = answered(Some(Coding::Gzip), vec![b'x'; COMPRESSED_BYTES_MIN - 1]).await;
    assert!(!headers.contains_key(CONTENT_ENCODING) && !headers.contains_key(VARY));
    for length in [4096, 1 << 20] {
        let mut noise = vec![0; length];
        getrandom::fill(&mut noise).unwrap();
        let (headers, body) = answered(Some(Coding::Gzip), noise.clone()).await;
        assert!(!headers.contains_key(CONTENT_ENCODING));
        assert_eq!(body, noise);
    }
}

#[tokio::test]
async fn answers_are_not_compressed_without_memory() {
    let response = document("text/plain", vec![b'x'; 1 << 20].into());
    let response = compressed(Some(Coding::Gzip), response, held(100)).await;
    assert!(!response.headers().contains_key(CONTENT_ENCODING));
    assert_eq!(response.body().size_hint().exact(), Some(1 << 20));
}

#[tokio::test]
async fn tags_of_compressed_files_are_weak() {
    let mut response = document("text/plain", vec![b'x'; 4096].into());
    response.headers_mut().insert(ETAG, HeaderValue::from_static("\"abc\""));
    let response = compressed(Some(Coding::Gzip), response, held(1 << 20)).await;
    assert_eq!(response.headers()[ETAG], "W/\"abc\"");
}

#[tokio::test]
async fn not_modified_answers_have_the_headers_of_the_file() {
    for (accepted, tag) in [(Some(Coding::Gzip), "W/\"abc\""), (None, "\"abc\"")] {
        let mut response = document("text/plain", Bytes::new());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response.headers_mut().insert(ETAG, HeaderValue::from_static("\"abc\""));
        let response = compressed(accepted, response, held(1 << 20)).await;
        assert_eq!(response.headers()[ETAG], tag);
        assert_eq!(response.headers()[VARY], "accept-encoding");
        assert!(!response.headers().contains_key(CONTENT_ENCODING));
    }
}
