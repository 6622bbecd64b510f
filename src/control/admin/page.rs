//! The page at `/`: what there is to see, and how things stand.

use std::fmt::Write;

use crate::{clock::Now, control::gateway::Stats, status::Status};

/// Rooms on the page.
pub(super) const ROOMS_SHOWN_MAX: usize = 20;

/// The page as HTML; it loads itself again every two seconds.
pub(super) fn render(status: &Status, stats: &Stats, now: Now) -> String {
    let state = if status.ready().0 == 200 { "ready" } else { "not ready" };
    let uptime_s = status.uptime_seconds(now);
    let mut page = format!(
        "{HEAD}<p class={class}>{state}</p><table>{rows}</table>\
         <p><a href=/metrics>/metrics</a> <a href=/health>/health</a> <a href=/ready>/ready</a> \
         <a href=/stats>/stats</a></p>",
        class = state.replace(' ', "-"),
        rows = [
            row("Connections", stats.connections),
            row("of users", stats.authenticated),
            row("Users", stats.users),
            row("Rooms", stats.room_count),
            row("Messages a second", status.control.messages_per_second.get()),
            row("Up, seconds", uptime_s),
        ]
        .concat(),
    );
    table(
        &mut page,
        "Core",
        stats.per_core.iter().enumerate().map(|(core, count)| (core.to_string(), *count)),
    );
    table(&mut page, "Room", stats.rooms.iter().map(|(room, members)| (escaped(room), *members)));
    page.push_str("</html>\n");
    page
}

fn row(name: &str, value: impl std::fmt::Display) -> String {
    format!("<tr><th>{name}<td>{value}")
}

fn table(page: &mut String, title: &str, rows: impl Iterator<Item = (String, u32)>) {
    let rows: String = rows.fold(String::new(), |mut rows, (name, count)| {
        write!(rows, "<tr><td>{name}<td>{count}").expect("a string takes everything");
        rows
    });
    if !rows.is_empty() {
        page.push_str(&format!("<table><tr><th>{title}<th>Connections{rows}</table>"));
    }
}

/// Names come from clients: nothing of them is markup.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

const HEAD: &str = "<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=2>\
<meta name=viewport content=\"width=device-width\"><title>Usher</title><style>\
body{font:16px system-ui;margin:2em;color-scheme:light dark}table{border-collapse:collapse;margin:1em 0}\
th,td{padding:.2em 1em .2em 0;text-align:left;border-bottom:1px solid #8884}\
.ready{color:#080}.not-ready{color:#c00}a{margin-right:1em}</style><h1>Usher</h1>";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_rooms_are_no_markup() {
        let now = Now { mono_ns: 0, wall_ms: 0 };
        let stats = Stats { rooms: vec![("<b>&".into(), 3)], per_core: vec![7], ..Stats::default() };
        let page = render(&Status::new(1, now), &stats, now);
        assert!(page.contains("<td>&lt;b&gt;&amp;<td>3") && page.contains("<td>0<td>7"), "{page}");
        assert!(page.contains("class=not-ready"));
    }
}
