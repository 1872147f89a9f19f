//! Whether a folder is a whole backup: its manifest can be read, each file has the size and digest that
//! the manifest states, and each is a snapshot from its beginning to its end. Needs no server.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read as _;
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use aws_lc_rs::digest::{Context as Digest, SHA256};
use data_encoding::HEXLOWER;
use serde_json::Value;

use super::archive::Archive;
use super::{FORM, MANIFEST, Manifest, StreamBackup};

/// The manifest of a folder. Whether its files exist and are whole, [`stream`] checks.
pub fn manifest(folder: &Path) -> anyhow::Result<Manifest> {
    let path = folder.join(MANIFEST);
    let shown = folder.display();
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && folder.is_dir() => bail!(
            "{shown} holds no whole backup: {MANIFEST} is missing, which is written last; a backup that \
             was cut off is none: take another one with `artstore bus backup FOLDER`"
        ),
        Err(error) => {
            return Err(error).with_context(|| format!("{} can't be read", path.display()));
        }
    };
    let damaged = || {
        format!(
            "{} is damaged: take another backup that is whole",
            path.display()
        )
    };
    let value: Value = serde_json::from_slice(&bytes).with_context(damaged)?;
    match value["form"].as_str() {
        Some(FORM) => {}
        Some(other) => bail!(
            "{} has the form {other}, this program reads {FORM}: use the program that made it, {}",
            path.display(),
            value["made_by"]
                .as_str()
                .unwrap_or("which it does not name"),
        ),
        None => bail!(
            "{} is no manifest of `artstore bus backup FOLDER`",
            path.display()
        ),
    }
    let manifest: Manifest = serde_json::from_value(value).with_context(damaged)?;
    consistent(&manifest).with_context(|| format!("{}", path.display()))?;
    Ok(manifest)
}

/// Each stream is there once, has a file of its own in the folder, and settings that are its own.
fn consistent(manifest: &Manifest) -> anyhow::Result<()> {
    let (mut streams, mut files) = (HashSet::new(), HashSet::new());
    for backup in &manifest.streams {
        let (stream, file) = (&backup.stream, &backup.file);
        let plain = Path::new(file).file_name() == Some(file.as_ref());
        ensure!(plain, "{file:?} is no file's name");
        ensure!(streams.insert(stream), "stream {stream} is in it twice");
        ensure!(files.insert(file), "file {file} is that of two streams");
        ensure!(
            backup.config.is_object() && backup.config["name"] == **stream,
            "stream {stream} has the settings of another one, or none"
        );
    }
    Ok(())
}

/// Refuses a stream's file that is not what the manifest states; `progress` gets the bytes that were read,
/// and can stop it, which is an error.
pub fn stream(
    folder: &Path,
    backup: &StreamBackup,
    mut progress: impl FnMut(u64) -> ControlFlow<()>,
) -> anyhow::Result<()> {
    let path = folder.join(&backup.file);
    let shown = path.display();
    let mut file = File::open(&path).with_context(|| format!("{shown} can't be read"))?;
    let (mut digest, mut bytes, mut archive) = (Digest::new(&SHA256), 0, Archive::default());
    let mut buffer = vec![0; 1 << 20];
    let mut contents = Ok(());
    loop {
        let read = file
            .read(&mut buffer)
            .with_context(|| format!("{shown} can't be read"))?;
        if read == 0 {
            break;
        }
        let part = &buffer[..read];
        digest.update(part);
        bytes += read as u64;
        if contents.is_ok() {
            contents = archive.take(part, |_| Ok::<_, super::archive::BadArchive>(()));
        }
        ensure!(progress(bytes).is_continue(), "stopped");
    }
    // The digest first: it explains more than what a changed byte does to the contents.
    let sha256 = HEXLOWER.encode(digest.finish().as_ref());
    ensure!(
        bytes == backup.bytes && sha256 == backup.sha256,
        "{shown} is not the file of the manifest: it has {bytes} bytes and SHA-256 {sha256}, which must \
         be {} and {}; it was changed since, or is damaged: nothing is done with it",
        backup.bytes,
        backup.sha256
    );
    contents.with_context(|| format!("{shown}"))?;
    ensure!(
        !archive.had_index(),
        "{shown} holds an index of the server, which a backup leaves out: it was not made by `artstore bus backup FOLDER`"
    );
    let blocks = archive.finish().with_context(|| format!("{shown}"))?;
    ensure!(
        blocks > 0 || backup.last_sequence == 0,
        "{shown} holds no messages, the manifest says {}",
        backup.last_sequence
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_stream_is_in_a_manifest_once_with_its_own_file_and_settings() {
        let backup = |stream: &str, file: &str, config: Value| {
            json!({
                "stream": stream, "source": null, "file": file, "bytes": 0, "sha256": "",
                "taken_at": "2026-11-29T00:00:00Z", "created": "2026-11-29T00:00:00Z",
                "first_sequence": 0, "last_sequence": 0, "last_message": null,
                "config": config, "state": {},
            })
        };
        let refused = |streams: Value| {
            let manifest = json!({
                "form": FORM, "made_by": "", "server_version": "", "streams": streams,
                "started_at": "2026-11-29T00:00:00Z", "finished_at": "2026-11-29T00:00:00Z",
            });
            let manifest: Manifest = serde_json::from_value(manifest).expect("a manifest");
            consistent(&manifest).map_err(|error| error.to_string())
        };
        let a = backup("A", "a", json!({"name": "A"}));
        let b = backup("B", "b", json!({"name": "B"}));
        assert_eq!(refused(json!([a, b])), Ok(()));
        let cases = [
            (json!([a, a]), "A is in it twice"),
            (
                json!([a, backup("B", "a", json!({"name": "B"}))]),
                "two streams",
            ),
            (
                json!([backup("A", "../a", json!({"name": "A"}))]),
                "no file's name",
            ),
            (
                json!([backup("A", "a", json!({"name": "B"}))]),
                "settings of another",
            ),
            (json!([backup("A", "a", json!([]))]), "or none"),
        ];
        for (streams, why) in cases {
            let error = refused(streams).expect_err(why);
            assert!(error.contains(why), "{why}: {error}");
        }
    }
}
