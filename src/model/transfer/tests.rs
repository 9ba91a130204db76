//! Tests of the transfer of a version from a repository to the folder of a receiver.

use super::*;
use crate::repository::{Repository, ScanResult};
use crate::{ModelInfo, ModelSource};
use testkit::Folder;

const PLENTY: u64 = 1 << 30;

/// A repository with a version of three pieces, the last one short, and an empty file.
fn version(folder: &Folder, weights: &[u8]) -> ModelInfo {
    let tensor = "name = \"x\"\ndatatype = \"UINT8\"\nshape = [1]\n";
    let text = format!("kind = \"identity\"\n[[inputs]]\n{tensor}[[outputs]]\n{tensor}");
    folder.write("m/model.toml", text.as_bytes());
    folder.write("m/1/weights", weights);
    folder.write("m/1/below/empty", b"");
    let repository = Repository::open(folder.path()).unwrap();
    match repository.scan_one("m", &["identity".to_owned()]).remove(0) {
        ScanResult::Good(info) => info,
        ScanResult::Bad(bad) => panic!("{bad:?}"),
    }
}

fn weights() -> Vec<u8> {
    (0..2 * PIECE_BYTES + 5).map(|n| (n % 251) as u8).collect()
}

/// Sends up to `most` pieces; returns how many were sent.
fn send(sent: &SentFiles, transfer: &mut Transfer, most: usize) -> usize {
    let mut count = 0;
    while let Some(id) = transfer.missing(0).filter(|_| count < most) {
        transfer.put(id, &sent.piece(id).unwrap()).unwrap();
        count += 1;
    }
    count
}

fn received(info: &ModelInfo, version: &VersionInUse) -> Vec<u8> {
    let info = ModelInfo { source: version.source(), ..info.clone() };
    info.files().unwrap().read("weights").unwrap().to_vec()
}

#[test]
fn version_is_sent_once_and_interrupted_transfer_continues() {
    let (repository, cache) = (Folder::new(), Folder::new());
    let info = version(&repository, &weights());
    let sent = SentFiles::of(&info).unwrap();
    let mut versions = ReceivedVersions::new(cache.path().join("models"), PLENTY);
    let mut transfer = versions.begin(sent.files().to_vec()).unwrap();
    // Three pieces of the weights and one of `model.toml`.
    assert_eq!(transfer.missing_pieces(), 4);
    assert_eq!(send(&sent, &mut transfer, 2), 2);
    drop(transfer);
    let mut transfer = versions.begin(sent.files().to_vec()).unwrap();
    assert_eq!(send(&sent, &mut transfer, 9), 2, "two were present");
    let version = versions.finish(transfer).unwrap();
    assert_eq!(received(&info, &version), weights());
    let ModelSource::Folder(root) = version.source() else { panic!("a folder") };
    assert_eq!(std::fs::read(root.join("m/1/below/empty")).unwrap(), b"");
    let again = versions.begin(sent.files().to_vec()).unwrap();
    assert_eq!(again.missing_pieces(), 0);
    assert_eq!(versions.finish(again).unwrap().source(), version.source());
}

#[test]
fn pieces_that_changed_on_disk_are_sent_again() {
    let (repository, cache) = (Folder::new(), Folder::new());
    let sent = SentFiles::of(&version(&repository, &weights())).unwrap();
    let mut versions = ReceivedVersions::new(cache.path().to_owned(), PLENTY);
    let mut transfer = versions.begin(sent.files().to_vec()).unwrap();
    send(&sent, &mut transfer, 4);
    let part = std::fs::read_dir(cache.path()).unwrap().next().unwrap().unwrap().path();
    let mut spoilt = weights();
    spoilt[PIECE_BYTES as usize] ^= 1;
    std::fs::write(part.join("m/1/weights"), spoilt).unwrap();
    let transfer = versions.begin(sent.files().to_vec()).unwrap();
    assert_eq!(transfer.missing_pieces(), 1);
    assert_eq!(transfer.missing(0).unwrap().piece, 1);
}

#[test]
fn file_that_changes_during_the_transfer_is_rejected() {
    let (repository, cache) = (Folder::new(), Folder::new());
    let sent = SentFiles::of(&version(&repository, b"12345")).unwrap();
    repository.write("m/1/weights", b"12346");
    let mut versions = ReceivedVersions::new(cache.path().to_owned(), PLENTY);
    let mut transfer = versions.begin(sent.files().to_vec()).unwrap();
    let mut put = || {
        let id = transfer.missing(0).unwrap();
        transfer.put(id, &sent.piece(id).unwrap())
    };
    let error = put().and_then(|()| put()).unwrap_err();
    assert!(matches!(error, TransferError::Changed { path } if path == "m/1/weights"));
    repository.write("m/1/weights", b"");
    let weights = sent.files().iter().position(|file| file.path() == "m/1/weights").unwrap();
    let id = PieceId { file: weights as u32, piece: 0 };
    assert!(hash(&sent.piece(id).unwrap()) != sent.files()[weights].pieces[0]);
}

#[test]
fn pieces_that_were_not_requested_are_rejected() {
    let (repository, cache) = (Folder::new(), Folder::new());
    let sent = SentFiles::of(&version(&repository, b"12345")).unwrap();
    let mut versions = ReceivedVersions::new(cache.path().to_owned(), PLENTY);
    let mut transfer = versions.begin(sent.files().to_vec()).unwrap();
    for id in [PieceId { file: 9, piece: 0 }, PieceId { file: 0, piece: 7 }] {
        assert!(matches!(transfer.put(id, b"12345"), Err(TransferError::Stray(_))));
        assert!(sent.piece(id).is_err());
    }
    let hashes = vec![0; HASH_BYTES];
    for path in ["../out", "/etc/passwd", "a//b", "", "a/.."] {
        assert!(ListedFile::new(path.to_owned(), 1, &hashes).is_none(), "{path}");
    }
    assert!(ListedFile::new("a".to_owned(), 0, &hashes).is_none());
    assert!(ListedFile::new("a".to_owned(), u64::MAX, &hashes).is_none());
    assert!(ListedFile::new("a".to_owned(), 1, &hashes).is_some());
}

#[test]
fn old_versions_are_removed_for_new_ones_unless_in_use() {
    let cache = Folder::new();
    let mut versions = ReceivedVersions::new(cache.path().to_owned(), 3000);
    let mut receive = |byte: u8| {
        let repository = Folder::new();
        let sent = SentFiles::of(&version(&repository, &vec![byte; 1000])).unwrap();
        let mut transfer = versions.begin(sent.files().to_vec())?;
        send(&sent, &mut transfer, 9);
        versions.finish(transfer)
    };
    let [first, second] = [1, 2].map(|byte| receive(byte).unwrap());
    let exists = |version: &ModelSource| matches!(version, ModelSource::Folder(at) if at.is_dir());
    assert!(matches!(receive(3), Err(TransferError::TooLarge { .. })));
    let (oldest, kept) = (first.source(), second.source());
    drop(first);
    let third = receive(3).unwrap();
    assert!(!exists(&oldest) && exists(&kept) && exists(&third.source()));
}
