//! The worked examples of `docs/audit-format.md`: computed here from the same inputs. A form that
//! changes shows itself here; it must not, because what is signed stays signed.

use artstore_projectors::audit_log::chain::{ChainKey, origin_hash};
use artstore_projectors::audit_log::head::{Boundary, Head, origin};
use artstore_projectors::audit_log::mapping::{self, RawMessage, Record};
use artstore_projectors::audit_log::note::SignerKey;
use artstore_projectors::audit_log::proof::Proof;
use artstore_projectors::audit_log::row::{Row, sha256};
use artstore_projectors::audit_log::tree::{inclusion, root};
use artstore_schemas::source::Source;
use async_nats::HeaderMap;
use data_encoding::HEXLOWER;

const DOCUMENT: &str = include_str!("../../docs/audit-format.md");

/// The block behind the line `<!-- name -->`, without its fences.
fn block(name: &str) -> String {
    let (_, behind) = DOCUMENT
        .split_once(&format!("<!-- {name} -->\n"))
        .unwrap_or_else(|| panic!("the document has no {name}"));
    let lines = behind.lines().skip(1);
    let text: Vec<&str> = lines.take_while(|line| *line != "```").collect();
    text.join("\n") + "\n"
}

fn hex(name: &str) -> String {
    block(name).split_whitespace().collect()
}

fn row() -> Row {
    let mut headers = HeaderMap::new();
    let written = block("headers");
    for line in written.lines() {
        let (name, value) = line.split_once(": ").expect("a header");
        headers.insert(name, value);
    }
    let record = Record {
        sequence: 1,
        published: "2026-01-02T03:04:06Z".parse().expect("a time"),
        message: Some(RawMessage {
            subject: block("subject").trim().to_owned(),
            headers,
            body: block("body").trim().to_owned().into(),
        }),
    };
    mapping::row(1, &Source::Admin, &record).expect("mapping 1")
}

#[track_caller]
fn same(name: &str, computed: &str, written: &str) {
    assert_eq!(computed, written, "{name} is, computed:\n{computed}\n");
}

#[test]
fn the_worked_examples_are_what_the_code_computes() {
    let row = row();
    let data = row.data.clone().expect("data");
    same("data", &data, block("data").trim());
    same("row", &HEXLOWER.encode(&row.bytes()), &hex("row"));
    same("leaf", &HEXLOWER.encode(&row.leaf()), &hex("leaf"));
    assert_eq!(Row::from_bytes(&row.bytes()).as_ref(), Ok(&row));

    let key = ChainKey::of(block("secret").trim()).expect("a secret");
    same("kid", key.kid(), block("kid").trim());
    let signer = SignerKey::of_seed("example.com/artstore", [7; 32]).expect("a name");
    let origin = origin(signer.verifier().name(), &row.stream);
    same("origin", &origin, block("origin").trim());
    let first = origin_hash(&origin);
    same("previous", &HEXLOWER.encode(&first), &hex("previous"));
    let signature = key.sign(&first, &row.leaf());
    same("signature", &HEXLOWER.encode(&signature), &hex("signature"));

    let second = Row {
        sequence: 2,
        ..row.clone()
    };
    let leaves = [row.leaf(), second.leaf()];
    let head = Head {
        origin,
        size: 2,
        root: root(leaves.as_slice(), 2).expect("both"),
        legacy: Boundary {
            rows: 0,
            last_id: 0,
            digest: sha256(b"artstore/audit-legacy/v1\0"),
        },
    };
    let note = head.sign(&signer);
    same("head", &note, &block("head"));
    let verifier = signer.verifier().to_string();
    same("key", &verifier, block("key").trim());
    let proof = Proof {
        row: row.bytes(),
        index: 0,
        hashes: inclusion(leaves.as_slice(), 0, 2).expect("in the tree"),
        head: note,
    };
    same("proof", &proof.to_text(), &block("proof"));
    assert!(proof.check(&[signer.verifier().clone()]).is_ok());
}
