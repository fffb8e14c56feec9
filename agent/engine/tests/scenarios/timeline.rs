//! Timeline lines as scenarios write them, and how two timelines are compared.

/// One line: whole seconds and the rest.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) at_secs: u64,
    pub(crate) text: String,
}

impl Line {
    pub(crate) fn parse(text: &str) -> Self {
        let (at, rest) = text.split_once(' ').expect("`Ns EVENT`");
        let at = at.strip_suffix('s').expect("whole seconds with `s`");
        Line {
            at_secs: at.parse().expect("whole seconds"),
            text: rest.to_owned(),
        }
    }
}

/// Two lines that are the same stand at most this far apart, in seconds.
const TOLERANCE_SECS: u64 = 1;

/// Nothing where `got` equals `wanted` as a multiset; else both, side by side.
pub(crate) fn difference(wanted: &[Line], got: &[Line]) -> Option<String> {
    let mut rest: Vec<Option<&Line>> = got.iter().map(Some).collect();
    let mut rows: Vec<(u64, String, String)> = Vec::new();
    let mut fits = true;
    for line in wanted {
        let found = rest.iter_mut().find(|other| {
            other.is_some_and(|other| {
                other.text == line.text && other.at_secs.abs_diff(line.at_secs) <= TOLERANCE_SECS
            })
        });
        let shown = format!("{}s {}", line.at_secs, line.text);
        match found {
            Some(other) => {
                *other = None;
                rows.push((line.at_secs, shown.clone(), shown));
            }
            None => {
                fits = false;
                rows.push((line.at_secs, shown, "-".to_owned()));
            }
        }
    }
    for line in rest.into_iter().flatten() {
        fits = false;
        let shown = format!("{}s {}", line.at_secs, line.text);
        rows.push((line.at_secs, "-".to_owned(), shown));
    }
    if fits {
        return None;
    }
    rows.sort_by_key(|(at, ..)| *at);
    let width = rows
        .iter()
        .map(|(_, left, _)| left.len())
        .max()
        .unwrap_or(0)
        .max("wanted".len());
    let shown = rows.iter().map(|(_, left, right)| {
        let mark = if left == right { ' ' } else { '!' };
        format!("{mark} {left:width$} | {right}\n")
    });
    Some(format!(
        "  {:width$} | got\n{}",
        "wanted",
        shown.collect::<String>()
    ))
}

#[test]
fn timelines_compare_as_multisets_within_a_second() {
    let lines = |texts: &[&str]| texts.iter().map(|t| Line::parse(t)).collect::<Vec<_>>();
    let wanted = lines(&["10s a", "10s b", "20s a"]);
    assert_eq!(
        difference(&wanted, &lines(&["10s b", "11s a", "20s a"])),
        None
    );
    let missing = difference(&wanted, &lines(&["10s b", "20s a"])).expect("a is missing");
    assert!(missing.contains("! 10s a  | -\n"), "{missing}");
    let late = difference(&wanted, &lines(&["10s b", "12s a", "20s a"])).expect("too late");
    assert!(late.contains("! -      | 12s a\n"), "{late}");
}
