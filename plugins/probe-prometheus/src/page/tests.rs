use super::*;

fn page(text: &str, open: bool) -> Page {
    read(text, open, &Relabel::default(), 1_000).unwrap()
}

fn series(page: &Page) -> Vec<(Kind, String)> {
    let families = page.families.iter();
    families
        .flat_map(|f| {
            f.points
                .iter()
                .map(|p| (f.kind, format!("{}{}", f.metric, p.suffix)))
        })
        .collect()
}

#[test]
fn samples_find_the_family_whose_type_has_their_suffix() {
    let text = "# TYPE a counter\na_total 1\n# TYPE b histogram\nb_bucket{le=\"+Inf\"} 1\nb_sum 1\nb_count 1\n\
                # TYPE c summary\nc{quantile=\"0.5\"} 1\nc_sum 1\nc_count 1\n# TYPE d gauge\nd 1\nd_total 1\ne_count 1\n";
    let expected = [
        (Kind::Counter, "a_total"),
        (Kind::Histogram, "b_bucket"),
        (Kind::Histogram, "b_sum"),
        (Kind::Histogram, "b_count"),
        (Kind::Summary, "c"),
        (Kind::Summary, "c_sum"),
        (Kind::Summary, "c_count"),
        (Kind::Gauge, "d"),
        (Kind::Untyped, "d_total"),
        (Kind::Untyped, "e_count"),
    ];
    assert_eq!(
        series(&page(text, false)),
        expected.map(|(k, n)| (k, n.to_owned()))
    );
}

#[test]
fn types_that_only_openmetrics_knows_are_gauges() {
    let text = "# TYPE a counter\na_total 1\na_created 1.5e9\n# TYPE i info\ni_info{v=\"1\"} 1\n# TYPE s stateset\n\
                s{s=\"on\"} 1\n# TYPE g gaugehistogram\ng_bucket{le=\"+Inf\"} 2\ng_gcount 2\ng_gsum 3\n# TYPE u unknown\nu 1\n\
                # EOF\nafter 1\n";
    let found = page(text, true);
    let expected = [
        (Kind::Counter, "a_total"),
        (Kind::Gauge, "s"),
        (Kind::Untyped, "u"),
        (Kind::Gauge, "i_info"),
        (Kind::Gauge, "g_bucket"),
        (Kind::Gauge, "g_gcount"),
        (Kind::Gauge, "g_gsum"),
    ];
    let mut expected = expected.map(|(k, n)| (k, n.to_owned())).to_vec();
    let mut found = series(&found);
    let by_name = |a: &(Kind, String), b: &(Kind, String)| a.1.cmp(&b.1);
    expected.sort_by(by_name);
    found.sort_by(by_name);
    assert_eq!(found, expected);
}

#[test]
fn an_openmetrics_page_without_its_end_was_cut() {
    let cut = read("a 1\n", true, &Relabel::default(), 10).unwrap_err();
    assert!(matches!(cut, Error::Unavailable { .. }));
    assert_eq!(page("a 1\n# EOF", true).taken, 1);
    assert_eq!(page("a 1", false).taken, 1);
}

#[test]
fn faulty_lines_are_counted_and_the_first_told() {
    let found = page("a 1\nb\r\nc{\n\nd x\ne e\n<\nf 2\r\n", false);
    assert_eq!((found.seen, found.taken, found.faulty), (2, 2, 5));
    assert_eq!(
        found.faults,
        [
            "line 2: no value",
            "line 3: the braces do not end",
            "line 5: the value is no number"
        ]
    );
}

#[test]
fn help_is_short_and_the_first_word_on_a_type_counts() {
    let text = format!(
        "# HELP a one \\\\ two\\nthree\n# TYPE a gauge\n# TYPE a counter\na 1\n# HELP a again\n# HELP b {}\nb 1\n# TYPE b gauge\n",
        "x".repeat(999)
    );
    let found = page(&text, false);
    assert_eq!(found.families[0].help, "one \\ two\nthree");
    assert_eq!(found.families[0].kind, Kind::Gauge);
    assert_eq!(found.families[1].help.len(), HELP_MAX);
    assert_eq!(found.families[1].kind, Kind::Untyped);
}
