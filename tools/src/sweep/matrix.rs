//! From axes to cells, and in which order they are measured.

use crate::error::Error;
use crate::sweep::scenario::{Scenario, Section, Setting};

/// Beyond it nobody reads the table, and a typing error is likelier.
const CELLS_MAX: usize = 1_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// `flushDiskType=SYNC_FLUSH,body_size=128`
    pub name: String,
    /// What tells it from the other cells: one value for each axis, the case first.
    pub place: Vec<(String, String)>,
    /// Everything that is set, axes or not.
    pub settings: Vec<(Section, String, String)>,
}

impl Cell {
    pub fn of(&self, section: Section) -> impl Iterator<Item = (&str, &str)> {
        self.settings
            .iter()
            .filter(move |(of, _, _)| *of == section)
            .map(|(_, key, value)| (key.as_str(), value.as_str()))
    }
}

/// Every combination of the axes and cases, less the exclusions; the last axis changes fastest.
pub fn cells(scenario: &Scenario, only: Option<&str>) -> Result<Vec<Cell>, Error> {
    let count = scenario
        .axes()
        .map(|axis| axis.values.len())
        .fold(scenario.cases.len().max(1), |product, values| product.saturating_mul(values));
    if count > CELLS_MAX {
        return Err(Error::Usage(format!(
            "{}: {count} combinations; at most {CELLS_MAX} can be measured, so shorten the lists",
            scenario.path.display()
        )));
    }
    let mut cells: Vec<Cell> = Vec::new();
    for case in 0..scenario.cases.len().max(1) {
        let overrides = scenario.cases.get(case).map_or(&[] as &[Setting], |case| case.settings.as_slice());
        let mut combinations: Vec<Vec<(Section, String, String)>> = vec![Vec::new()];
        for setting in &scenario.settings {
            let pinned = overrides.iter().find(|other| is_same(other, setting));
            let values = pinned.map_or(&setting.values, |other| &other.values);
            combinations = combinations
                .into_iter()
                .flat_map(|so_far| {
                    values.iter().map(move |value| {
                        let mut longer = so_far.clone();
                        longer.push((setting.section, setting.key.clone(), value.clone()));
                        longer
                    })
                })
                .collect();
        }
        for mut settings in combinations {
            let added = overrides
                .iter()
                .filter(|setting| !scenario.settings.iter().any(|other| is_same(other, setting)));
            settings.extend(
                added.map(|setting| (setting.section, setting.key.clone(), setting.values[0].clone())),
            );
            let cell = cell(scenario, case, settings);
            let is_chosen = only.is_none_or(|pattern| matches(pattern, &cell.name));
            if is_chosen && !is_excluded(scenario, &cell) && !cells.contains(&cell) {
                cells.push(cell);
            }
        }
    }
    if cells.is_empty() {
        let why = match only {
            Some(pattern) => format!("no cell matches --only {pattern:?}; --list prints their names"),
            None => String::from("its exclusions leave nothing to measure"),
        };
        return Err(Error::Usage(format!("{}: {why}", scenario.path.display())));
    }
    Ok(cells)
}

fn cell(scenario: &Scenario, case: usize, settings: Vec<(Section, String, String)>) -> Cell {
    let case = scenario.cases.get(case).map(|case| (String::from("case"), case.name.clone()));
    let axes = scenario.axes().filter_map(|axis| {
        let (_, key, value) =
            settings.iter().find(|(section, key, _)| (*section, key) == (axis.section, &axis.key))?;
        Some((key.clone(), value.clone()))
    });
    let place: Vec<(String, String)> = case.into_iter().chain(axes).collect();
    let parts: Vec<String> = place.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let name = if parts.is_empty() { String::from("only") } else { parts.join(",") };
    Cell { name, place, settings }
}

fn is_same(one: &Setting, other: &Setting) -> bool {
    (one.section, &one.key) == (other.section, &other.key)
}

fn is_excluded(scenario: &Scenario, cell: &Cell) -> bool {
    let case = cell.place.iter().find(|(key, _)| key == "case").map(|(_, value)| value);
    scenario.exclusions.iter().any(|exclusion| {
        exclusion.iter().all(|(key, values)| {
            let is_value = |value: &String| values.contains(value);
            cell.settings.iter().any(|(_, of, value)| of == key && is_value(value))
                || (key == "case" && case.is_some_and(is_value))
        })
    })
}

/// The order of one round. Each starts at another cell and every other one runs backwards, so that a machine that
/// slows down or a disk that fills up favours no cell.
pub fn order(cells: usize, round: u32, rounds: u32) -> Vec<usize> {
    let mut order: Vec<usize> = (0..cells).collect();
    if cells > 0 {
        order.rotate_left(cells * (round as usize % rounds.max(1) as usize) / rounds.max(1) as usize);
    }
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

/// `*` stands for anything, `?` for one character.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut seen) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while seen < name.len() {
        if at < pattern.len() && pattern[at] == '*' {
            star = Some((at, seen));
            at += 1;
        } else if at < pattern.len() && (pattern[at] == '?' || pattern[at] == name[seen]) {
            at += 1;
            seen += 1;
        } else if let Some((behind, from)) = star {
            // The last star takes one character more.
            star = Some((behind, from + 1));
            (at, seen) = (behind + 1, from + 1);
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|&rest| rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::scenario::tests::parsed;

    fn names(text: &str, only: Option<&str>) -> Vec<String> {
        cells(&parsed(text).unwrap(), only).unwrap().into_iter().map(|cell| cell.name).collect()
    }

    const TWO_AXES: &str = "[load]\nbatch = [1, 32]\ncodec = 'binary'\n[broker]\nrmq.shards = [1, 2]\n";

    #[test]
    fn the_last_axis_changes_fastest() {
        assert_eq!(
            names(TWO_AXES, None),
            [
                "batch=1,rmq.shards=1",
                "batch=1,rmq.shards=2",
                "batch=32,rmq.shards=1",
                "batch=32,rmq.shards=2"
            ]
        );
        assert_eq!(names("[load]\nbatch = 4", None), ["only"]);
        let cell = &cells(&parsed(TWO_AXES).unwrap(), Some("batch=1,*=2")).unwrap()[0];
        assert_eq!(cell.of(Section::Load).collect::<Vec<_>>(), [("batch", "1"), ("codec", "binary")]);
        assert_eq!(cell.of(Section::Broker).collect::<Vec<_>>(), [("rmq.shards", "2")]);
    }

    #[test]
    fn exclusions_and_patterns_leave_cells_out() {
        let excluded = format!("{TWO_AXES}[[exclude]]\nbatch = 32\nrmq.shards = [2]\n");
        assert_eq!(names(&excluded, None).len(), 3);
        assert_eq!(names(&excluded, Some("*shards=2")), ["batch=1,rmq.shards=2"]);
        let error = cells(&parsed(TWO_AXES).unwrap(), Some("x*")).unwrap_err().to_string();
        assert!(error.contains("--only \"x*\""), "{error}");
    }

    #[test]
    fn a_case_pins_what_it_names() {
        let text = format!(
            "{TWO_AXES}[[case]]\nname = 'plain'\n[[case]]\nname = 'eager'\nbroker.rmq.spinMicros = 50\nload.batch = 8\n"
        );
        assert_eq!(
            names(&text, Some("case=eager*")),
            ["case=eager,batch=8,rmq.shards=1", "case=eager,batch=8,rmq.shards=2"]
        );
        assert_eq!(names(&text, None).len(), 6);
        let cell = &cells(&parsed(&text).unwrap(), Some("case=eager*")).unwrap()[0];
        assert!(cell.of(Section::Broker).any(|setting| setting == ("rmq.spinMicros", "50")));
    }

    #[test]
    fn too_many_combinations_are_refused() {
        let list = (1..=40).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        let scenario = parsed(&format!("[load]\nbatch = [{list}]\nin_flight = [{list}]")).unwrap();
        assert!(cells(&scenario, None).unwrap_err().to_string().contains("1600 combinations"));
    }

    /// Over the rounds, no cell is always early or always late.
    #[test]
    fn rounds_alternate() {
        assert_eq!(order(4, 0, 3), [0, 1, 2, 3]);
        assert_eq!(order(4, 1, 3), [0, 3, 2, 1]);
        assert_eq!(order(4, 2, 3), [2, 3, 0, 1]);
        assert_eq!(order(3, 1, 2), [0, 2, 1]);
        for (cells, rounds) in [(1, 1), (5, 4), (7, 9)] {
            for round in 0..rounds {
                let mut order = order(cells, round, rounds);
                order.sort_unstable();
                assert!(order.into_iter().eq(0..cells));
            }
        }
    }

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abcb", false),
            ("*b*b*", "abcb", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("", "a", false),
            ("**a", "ba", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
