//! Rules against versions: what is due when, and what is not.

use std::collections::BTreeMap;

use super::{Calendar, Due, Expiration, Filter, Lifecycle, NoncurrentExpiration, Rule, Standing, VersionFacts, expiry};

const SHORT: Calendar = Calendar::Short(10);

fn rule(id: &str, prefix: &str) -> Rule {
    Rule {
        id: id.to_owned(),
        enabled: true,
        filter: Filter { prefix: Some(prefix.to_owned()), ..Filter::default() },
        expiration: None,
        noncurrent: None,
        abort_upload_days: None,
    }
}

fn expiring(id: &str, prefix: &str, expiration: Expiration) -> Rule {
    Rule { expiration: Some(expiration), ..rule(id, prefix) }
}

fn lifecycle(rules: &[Rule]) -> Lifecycle {
    Lifecycle { rules: rules.to_vec() }
}

static NO_TAGS: BTreeMap<String, String> = BTreeMap::new();

fn version(modified_ms: u64) -> VersionFacts<'static> {
    VersionFacts { modified_ms, is_marker: false, size: 5, tags: &NO_TAGS }
}

fn marker(modified_ms: u64) -> VersionFacts<'static> {
    VersionFacts { is_marker: true, size: 0, ..version(modified_ms) }
}

/// What is due of a key's versions, newest first.
fn due(
    rules: &Lifecycle,
    key: &str,
    versions: &[VersionFacts<'_>],
    calendar: Calendar,
    now_ms: u64,
) -> Vec<(usize, Due)> {
    let standing = |place: usize| match place.checked_sub(1) {
        None => Standing::Current { alone: versions.len() == 1 },
        Some(newer) => Standing::Noncurrent { since_ms: versions[newer].modified_ms, newer: newer as u32 },
    };
    let places = versions.iter().enumerate();
    let due = places.map(|(at, facts)| (at, super::due(rules, key, facts, standing(at), calendar, now_ms)));
    due.filter_map(|(at, due)| Some((at, due?))).collect()
}

#[test]
fn days_end_at_the_next_midnight() {
    let (hour, day) = (3_600_000, 86_400_000);
    assert_eq!(Calendar::Days.after(13 * hour, 1), 2 * day);
    assert_eq!(Calendar::Days.after(0, 1), day);
    assert_eq!(Calendar::Days.after(1, 1), 2 * day);
    assert_eq!(SHORT.after(3, 2), 23);
}

#[test]
fn the_earliest_rule_that_matches_counts() {
    let rules = lifecycle(&[
        expiring("late", "a/", Expiration::Days(9)),
        expiring("soon", "", Expiration::Days(2)),
        Rule { enabled: false, ..expiring("off", "a/", Expiration::Days(1)) },
        expiring("elsewhere", "b/", Expiration::Days(1)),
    ]);
    assert_eq!(expiry(&rules, "a/k", &version(100), SHORT), Some((120, "soon")));
    assert_eq!(expiry(&rules, "a/k", &marker(100), SHORT), None);
    assert_eq!(due(&rules, "a/k", &[version(100)], SHORT, 119), []);
    assert_eq!(due(&rules, "a/k", &[version(100)], SHORT, 120), [(0, Due::Expire)]);
}

#[test]
fn a_date_holds_for_what_comes_later_too() {
    let rules = lifecycle(&[expiring("date", "", Expiration::Date(50))]);
    assert_eq!(due(&rules, "k", &[version(10)], SHORT, 49), []);
    assert_eq!(due(&rules, "k", &[version(90)], SHORT, 90), [(0, Due::Expire)]);
}

#[test]
fn all_of_a_filter_must_hold() {
    let tags: BTreeMap<_, _> = [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())].into();
    let filter = Filter {
        tags: [("a".to_owned(), "1".to_owned())].into(),
        size_greater: Some(10),
        size_less: Some(20),
        prefix: Some("p".to_owned()),
        ..Filter::default()
    };
    assert!(filter.matches("pk", 11, &tags));
    for (key, size, tags) in [("k", 11, &tags), ("pk", 10, &tags), ("pk", 20, &tags), ("pk", 11, &NO_TAGS)] {
        assert!(!filter.matches(key, size, tags));
    }
}

#[test]
fn noncurrent_versions_go_in_their_time_but_for_the_newest() {
    let noncurrent = |newer| Rule { noncurrent: Some(NoncurrentExpiration { days: 1, newer }), ..rule("n", "") };
    let versions = [version(40), version(30), version(20), version(10)];
    // Noncurrent since 40, 30, 20.
    assert_eq!(due(&lifecycle(&[noncurrent(None)]), "k", &versions, SHORT, 39), [(3, Due::Remove)]);
    let all = [(1, Due::Remove), (2, Due::Remove), (3, Due::Remove)];
    assert_eq!(due(&lifecycle(&[noncurrent(None)]), "k", &versions, SHORT, 50), all);
    assert_eq!(due(&lifecycle(&[noncurrent(Some(1))]), "k", &versions, SHORT, 50), all[1..]);
    assert_eq!(due(&lifecycle(&[noncurrent(Some(3))]), "k", &versions, SHORT, 50), []);
}

#[test]
fn a_marker_goes_when_it_hides_nothing() {
    let at_once = lifecycle(&[expiring("m", "", Expiration::DeleteMarker)]);
    assert_eq!(due(&at_once, "k", &[marker(10), version(5)], SHORT, 99), []);
    assert_eq!(due(&at_once, "k", &[marker(10)], SHORT, 10), [(0, Due::Remove)]);
    assert_eq!(due(&at_once, "k", &[version(10)], SHORT, 99), [], "a version is no marker");
    let in_time = lifecycle(&[expiring("d", "", Expiration::Days(2))]);
    assert_eq!(due(&in_time, "k", &[marker(10), version(5)], SHORT, 99), []);
    assert_eq!(due(&in_time, "k", &[marker(10)], SHORT, 29), []);
    assert_eq!(due(&in_time, "k", &[marker(10)], SHORT, 30), [(0, Due::Remove)]);
    let by_tag = Filter { tags: [("a".to_owned(), "1".to_owned())].into(), ..Filter::default() };
    let tagged = lifecycle(&[Rule { filter: by_tag, ..expiring("t", "", Expiration::DeleteMarker) }]);
    assert_eq!(due(&tagged, "k", &[marker(10)], SHORT, 99), [], "a marker has no tags");
}

#[test]
fn uploads_are_aborted_in_their_time() {
    let abort = |id, days| Rule { abort_upload_days: Some(days), ..rule(id, "a/") };
    let rules = lifecycle(&[abort("late", 7), abort("soon", 2)]);
    assert_eq!(rules.upload_expiry("a/k", 100, SHORT), Some((120, "soon")));
    assert_eq!(rules.upload_expiry("b/k", 100, SHORT), None);
}
