//! `usher demo`: a whole sale in one command.

use crate::support::server::command;

#[test]
fn a_demonstration_sells_every_ticket_once_and_says_that_everything_held() {
    let arguments = ["demo", "--buyers", "40", "--seats", "12", "--seconds", "5"];
    // What is configured for a gateway is not for the demonstration's.
    let output =
        command().args(arguments).env("HTTP_PORT", "not a port").output().expect("the binary was built");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("/onsale#gateway=ws://127.0.0.1:"), "the page is named\n{text}");
    let states: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    for state in ["early", "open", "sold_out"] {
        assert!(states.contains(&state), "{state} is missing\n{text}");
    }
    let last = text.lines().last().unwrap_or_default();
    assert!(last.starts_with("held: ") && text.contains("\n12 tickets sold, "), "{text}");
}

#[test]
fn a_demonstration_that_cannot_sell_out_is_refused() {
    let output =
        command().args(["demo", "--buyers", "10", "--seats", "8"]).output().expect("the binary was built");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--seats"));
}
