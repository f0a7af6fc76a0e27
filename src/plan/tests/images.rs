//! What the image of a root says of the process.

use super::host::Table;
use super::{essence, planning};
use crate::image::oci::Config;
use crate::plan::step::{Origin, Step};
use crate::plan::{Care, plan};
use crate::unit::from_text;

#[test]
fn what_an_image_says_holds_where_the_unit_does_not() {
    let mut host = Table::bare();
    host.config = Config {
        env: vec!["PATH=/image".to_owned(), "A=image".to_owned()],
        entrypoint: vec!["/start".to_owned()],
        cmd: vec!["now".to_owned()],
        working_dir: Some("/srv".to_owned()),
        user: Some("7:8".to_owned()),
        stop_signal: Some("SIGQUIT".to_owned()),
    };
    let exec = |text: &str, arguments: &[String]| {
        let loaded = from_text("web.toml", text, "/units".into(), "web", &[], arguments);
        let planning = plan(loaded.unit.as_ref().unwrap(), &host, Care::Launch);
        let steps = planning.plan.unwrap_or_else(|| panic!("{:?}", planning.diagnostics)).steps;
        let last = steps.last().unwrap().clone();
        let Step::Exec { command, environment } = last.step else { panic!("{last:?}") };
        let cwd = steps.iter().find_map(|planned| match &planned.step {
            Step::ChangeDirectory { path } => Some(path.display().to_string()),
            _ => None,
        });
        let ids = steps.iter().find_map(|planned| match &planned.step {
            Step::SetIds { uid, gid, .. } => Some((*uid, *gid)),
            _ => None,
        });
        let stop = steps.iter().find_map(|planned| match &planned.step {
            Step::Supervise { stop_signal, .. } => Some(*stop_signal),
            _ => None,
        });
        let value = |name: &str| {
            environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        };
        (command, value("PATH"), value("A"), cwd.unwrap(), ids.unwrap(), stop.unwrap(), last.origin)
    };
    let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let image = "root.oci = \"/etc:tag\"\n";
    let some = |text: &str| Some(text.to_owned());
    let (command, path, a, cwd, ids, stop, by) = exec(image, &[]);
    assert_eq!(command, words(&["/start", "now"]));
    assert_eq!((path, a, &*cwd), (some("/image"), some("image"), "/srv"));
    assert_eq!((ids, stop, by), ((7, 8), 3, Origin::Image("process.command")));
    // Arguments take the place of the image's own.
    assert_eq!(exec(image, &words(&["later"])).0, words(&["/start", "later"]));
    let unit = format!(
        "{image}process = {{ command = [\"/x\"], env = {{ A = \"unit\" }}, cwd = \"/\", user = 0 }}\n"
    );
    let (command, path, a, cwd, ids, ..) = exec(&unit, &[]);
    assert_eq!(command, words(&["/x"]));
    assert_eq!((path, a, &*cwd, ids), (some("/image"), some("unit"), "/", (0, 0)));
}

#[test]
fn an_archive_without_a_command_is_told_once() {
    let text = "root.tar = \"/etc/root.tar\"\n";
    let (_, said) = essence(&Table::bare(), text, &[]);
    let codes: Vec<_> = said.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, ["E0104"], "{said:?}");
    let (_, said) = essence(&Table::bare(), "root.oci = \"/etc:tag\"\n", &[]);
    let codes: Vec<_> = said.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, ["E0104"], "{said:?}");
}

#[test]
fn a_name_of_an_image_waits_until_it_is_unpacked() {
    let mut host = Table::bare();
    host.config.user = Some("web".to_owned());
    host.config.cmd = vec!["/start".to_owned()];
    let (_, planning) = planning(&host, "root.oci = \"/etc:tag\"\n");
    let codes: Vec<_> = planning.diagnostics.iter().map(|found| found.code).collect();
    assert_eq!(codes, ["W0008"]);
    assert!(planning.plan.unwrap().needs_preparation());
}
