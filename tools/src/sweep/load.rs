//! `[load]`: the options of `produce` under their own names, with underscores.
//!
//! They are read by the same parser as the command line, so that a new option of `produce` is an axis at once.

use clap::{ArgAction, CommandFactory, Parser};

use crate::produce::LoadArgs;
use crate::sweep::closest;

#[derive(Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct LoadLine {
    #[command(flatten)]
    load: LoadArgs,
}

/// Options that a cell has no say in, and why.
const RESERVED: [(&str, &str); 5] = [
    ("duration", "stands at the top of the file, outside of [load]"),
    ("warmup", "stands at the top of the file, outside of [load]"),
    ("messages", "a cell lasts for the duration at the top of the file"),
    ("run", "every run gets its own"),
    ("no_create", "every cell starts with an empty broker, so the topic is always created"),
];

/// Whether a key exists and takes this value.
pub fn check(key: &str, value: &str) -> Result<(), String> {
    args([(key, value)].into_iter()).map(drop)
}

/// The load of a cell.
pub fn args<'a>(settings: impl Iterator<Item = (&'a str, &'a str)>) -> Result<LoadArgs, String> {
    let command = LoadLine::command();
    let mut line = Vec::new();
    for (key, value) in settings {
        if let Some((_, why)) = RESERVED.iter().find(|(reserved, _)| *reserved == key) {
            return Err((*why).to_owned());
        }
        let known = || command.get_arguments().filter(|known| !is_reserved(known.get_id().as_str()));
        let Some(argument) = known().find(|known| known.get_id().as_str() == key) else {
            let names: Vec<&str> = known().map(|known| known.get_id().as_str()).collect();
            return Err(closest(key, &names));
        };
        let option = format!("--{}", argument.get_long().unwrap_or(key));
        match (argument.get_action(), value) {
            (ArgAction::SetTrue, "true") => line.push(option),
            (ArgAction::SetTrue, "false") => {}
            (ArgAction::SetTrue, _) => return Err(String::from("give true or false")),
            _ => line.push(format!("{option}={value}")),
        }
    }
    let parsed = LoadLine::try_parse_from(line).map_err(|error| first_paragraph(&error.to_string()))?;
    parsed.load.check().map_err(|error| error.to_string())?;
    Ok(parsed.load)
}

fn is_reserved(key: &str) -> bool {
    RESERVED.iter().any(|(reserved, _)| *reserved == key)
}

/// The parser explains at length how to get help, which a file has no use for.
fn first_paragraph(text: &str) -> String {
    let paragraph = text.trim_start_matches("error: ").split("\n\n").next().unwrap_or_default();
    paragraph.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::CodecName;

    #[test]
    fn keys_are_the_options_of_produce() {
        let settings =
            [("in_flight", "16"), ("body_size", "1024"), ("codec", "binary"), ("no_unique_key", "true")];
        let load = args(settings.into_iter()).unwrap();
        assert_eq!((load.in_flight, load.codec), (16, CodecName::Binary));
        assert_eq!(load.payload.body_size.max, 1024);
        assert!(load.payload.no_unique_key && !load.oneway);
        assert!(!args([("oneway", "false")].into_iter()).unwrap().oneway);
    }

    #[test]
    fn values_are_checked_as_on_the_command_line() {
        let error = check("connections", "0").unwrap_err();
        assert!(error.contains("'0'") && !error.contains('\n') && !error.contains("--help"), "{error}");
        assert!(check("oneway", "maybe").unwrap_err().contains("true or false"));
        assert!(check("in-flight", "3").unwrap_err().contains("did you mean in_flight?"));
        assert!(check("messages", "3").unwrap_err().contains("duration"));
    }
}
