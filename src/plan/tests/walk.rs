//! Where paths of the jail lead: what is told at once is what is found part by part.

use std::path::Path;

use super::host::{Node, Table};
use crate::changes::Marks;
use crate::plan::step::NodeKind;
use crate::plan::view::{Place, View, Walk};

/// A root of the host, with links of every kind, mounts in it, and what a plan makes.
fn jail() -> (Table, View) {
    let mut host = Table::bare();
    for (name, to) in [
        ("live", "usr/bin"),
        ("dangling", "nowhere"),
        ("absolute", "/usr/bin/true"),
        ("up", "../../../usr"),
        ("loop", "loop"),
        ("into", "/proc/keys"),
    ] {
        host.put(&format!("/srv/web/{name}"), Node::Link(to.into()));
    }
    host.put("/srv/layer/only", Node::Directory);
    host.put("/srv/layer/link", Node::Link("only".into()));
    let mut view = View::new(Marks::Trusted);
    let web = Place::Host("/srv/web".into());
    view.mount(Path::new("/"), web, false);
    view.mount(Path::new("/proc"), Place::Kernel("/proc".into()), false);
    view.mount(Path::new("/tmp"), Place::Memory, false);
    view.mount(Path::new("/data"), Place::Layers(vec!["/srv/layer".into()]), false);
    view.mount(Path::new("/run"), Place::Host("/srv/web/usr".into()), true);
    view.mount(Path::new("/run/bin"), Place::Host("/etc/profile.json".into()), true);
    view.mount(Path::new("/proc/keys"), Place::Host("/dev/null".into()), true);
    view.make(Path::new("/made/below"), NodeKind::File);
    view.link("/made/link".as_ref(), "/proc");
    view.link("/pointer".as_ref(), "usr");
    (host, view)
}

#[test]
fn a_walk_in_one_step_ends_where_one_part_by_part_does() {
    let (host, view) = jail();
    let tops = ["", "/proc", "/tmp", "/data", "/run", "/run/bin", "/usr", "/made", "/pointer"];
    let names = [
        "",
        "usr",
        "etc",
        "bin",
        "bin/true",
        "usr/bin",
        "live",
        "live/true",
        "dangling",
        "absolute",
        "up",
        "up/bin",
        "loop",
        "into",
        "proc",
        "keys",
        "kcore",
        "sys/kernel",
        "missing",
        "missing/deeper",
        "only",
        "link",
        "below",
        "below/file",
        "pointer",
        "pointer/bin",
        "made/link/keys",
        "..",
        "../usr",
        ".",
        "usr/",
        "/usr",
    ];
    let mut found = 0;
    for path in tops.iter().flat_map(|top| names.map(|name| format!("{top}/{name}"))) {
        let path = Path::new(&path);
        let told = |walk: std::io::Result<Walk>| walk.map_err(|error| error.kind());
        let at_once = told(view.walk(&host, path));
        assert_eq!(at_once, told(view.walk_slowly(&host, path)), "{}", path.display());
        found += usize::from(matches!(at_once, Ok(Walk::Found(..))));
    }
    assert!(found > 60, "{found} paths lead somewhere");
}
