//! Objects that grow.

use super::*;

fn append(sequence: u64, parts: Vec<Part>, size: u64) -> Command {
    Command::Append {
        path: path("k"),
        sequence,
        conditions: Conditions::default(),
        quota: QuotaTerms::default(),
        parts,
        size,
        etag: ETag { md5: [8; 16], parts: Some(2) },
        checksum: None,
    }
}

fn parts_of(bench: &Bench) -> Vec<u16> {
    match bench.object("k").map(|found| found.object.data) {
        Some(Data::Parts(parts)) => parts.iter().map(|part| part.number).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_object_grows_by_its_parts_and_keeps_what_else_it_is() {
    let mut bench = Bench::new();
    let mut first = object(1, Data::Parts(vec![part(1, 1)]));
    first.attributes.tags = [("team".to_owned(), "blue".to_owned())].into();
    bench.run(put("k", Conditions::default(), first.clone()));
    let begun = bench.object("k").expect("it was put");
    let reply = bench.run(append(begun.sequence, vec![part(2, 2)], 10 << 20));
    assert!(matches!(reply, MetaReply::Written { .. }), "{reply:?}");
    let grown = bench.object("k").expect("it is there");
    assert_eq!((grown.object.size, grown.sequence), (10 << 20, bench.index));
    assert_eq!((&grown.object.attributes, &grown.object.headers), (&first.attributes, &first.headers));
    assert_eq!(parts_of(&bench), [1, 2]);
    assert!(bench.referenced(PartId([1; 16])) && bench.referenced(PartId([2; 16])));
    assert_eq!(bench.garbage(), BTreeSet::new());
    bench.run(delete("k", Conditions::default()));
    assert_eq!(bench.garbage(), [1, 2].map(|id| PartId([id; 16])).into());
}

#[test]
fn what_is_added_to_another_object_than_was_meant_is_garbage() {
    let mut bench = Bench::new();
    bench.run(put("k", Conditions::default(), inline(1)));
    let sequence = bench.object("k").expect("it was put").sequence;
    let grown = bench.run(append(sequence, vec![part(1, 1), part(2, 2)], 10 << 20));
    assert!(matches!(grown, MetaReply::Written { .. }), "{grown:?}");
    assert_eq!(parts_of(&bench), [1, 2], "what lay in the record came as the first part");
    assert_eq!(bench.run(append(sequence, vec![part(3, 3)], 15 << 20)), MetaReply::PartsChanged);
    assert_eq!(bench.garbage(), BTreeSet::from([PartId([3; 16])]));
    // A version that is kept does not grow.
    bench.run(put_in(Versioning::Enabled, "k", Conditions::default(), inline(2)));
    let kept = bench.object("k").expect("it was put").sequence;
    assert_eq!(bench.run(append(kept, vec![part(4, 2)], 5 << 20)), MetaReply::PartsChanged);
    assert_eq!(bench.garbage(), [3, 4].map(|id| PartId([id; 16])).into());
}

#[test]
fn conditions_and_quotas_hold_of_what_is_added() {
    let mut bench = Bench::new();
    bench.run(put("k", Conditions::default(), inline(1)));
    let sequence = bench.object("k").expect("it was put").sequence;
    let Command::Append { path, parts, size, etag, .. } = append(sequence, vec![part(1, 1)], 5 << 20) else {
        panic!("an addition")
    };
    let with = |conditions: Conditions, quota: QuotaTerms| {
        let (path, parts) = (path.clone(), parts.clone());
        Command::Append { path, sequence, conditions, quota, parts, size, etag, checksum: None }
    };
    let governed = QuotaTerms { bucket: Some(1), ..QuotaTerms::default() };
    assert!(matches!(bench.run(with(Conditions::default(), governed)), MetaReply::Quota(_)));
    assert_eq!(bench.garbage(), BTreeSet::new(), "it may come again");
    assert_eq!(bench.run(with(if_absent(), QuotaTerms::default())), MetaReply::PreconditionFailed);
    assert_eq!(bench.garbage(), BTreeSet::from([PartId([1; 16])]));
}
