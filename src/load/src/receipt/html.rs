//! A receipt as a page with a timeline: one bar for each rank, one colour for each phase.

use std::fmt::Write;

use super::{PHASES, RankLoad, Receipt, text};

/// Ranks drawn: the first ones, and the slowest.
const DRAWN: usize = 64;

const COLOURS: [&str; 6] = [
    "#888", "#4c78a8", "#72b7b2", "#f58518", "#54a24b", "#b279a2",
];

const STYLE: &str = "body{font:14px sans-serif;margin:2em;max-width:70em}table{border-collapse:collapse}\
td{padding:.15em 1em .15em 0;vertical-align:top}td:first-child{color:#666;white-space:nowrap}\
.rank{display:flex;height:14px;margin:2px 0}.rank span{width:9em;font-size:11px;color:#666}\
.bar{position:relative;flex:1;background:#f4f4f4}.bar i{position:absolute;height:7px}\
.key i{display:inline-block;width:12px;height:12px;margin:0 .3em 0 1em}";

/// The page.
pub(super) fn render(receipt: &Receipt) -> String {
    let mut out =
        String::from("<!doctype html><meta charset=\"utf-8\"><title>pybundle receipt</title>");
    add(
        &mut out,
        format_args!("<style>{STYLE}</style><h1>Receipt</h1><table>"),
    );
    for (name, value) in text::rows(receipt) {
        add(
            &mut out,
            format_args!(
                "<tr><td>{}</td><td>{}</td></tr>",
                escape(&name),
                escape(&value)
            ),
        );
    }
    out.push_str("</table><h2>Loading, rank by rank</h2><p class=\"key\">");
    for (phase, colour) in PHASES.iter().zip(COLOURS) {
        add(
            &mut out,
            format_args!("<i style=\"background:{colour}\"></i>{phase}"),
        );
    }
    out.push_str("</p>");
    let ranks = drawn(&receipt.load);
    let end = ranks.iter().map(|rank| ended(rank)).fold(1e-9, f64::max);
    for rank in ranks {
        add(
            &mut out,
            format_args!(
                "<div class=\"rank\"><span>{} {}</span><div class=\"bar\">",
                rank.rank,
                escape(&rank.node)
            ),
        );
        for (&phase, colour) in PHASES.iter().zip(COLOURS) {
            let Some(&(from, to)) = rank.phases.get(phase) else {
                continue;
            };
            let (left, width) = (100.0 * from / end, 100.0 * (to - from) / end);
            // Decoding goes on beside the transfer: the lower half.
            let top = if phase == "decode" { 7 } else { 0 };
            add(
                &mut out,
                format_args!(
                    "<i style=\"left:{left:.2}%;width:{width:.2}%;top:{top}px;background:{colour}\" \
                 title=\"{phase} {:.3} s\"></i>",
                    to - from
                ),
            );
        }
        out.push_str("</div></div>");
    }
    add(
        &mut out,
        format_args!(
            "<p>Right edge: {end:.3} s</p><h2>As text</h2><pre>{}</pre>",
            escape(&text::render(receipt))
        ),
    );
    out
}

fn ended(rank: &RankLoad) -> f64 {
    rank.phases.values().map(|(_, to)| *to).fold(0.0, f64::max)
}

fn drawn(load: &[RankLoad]) -> Vec<&RankLoad> {
    let mut slowest: Vec<&RankLoad> = load.iter().skip(DRAWN / 2).collect();
    slowest.sort_by(|one, other| ended(other).total_cmp(&ended(one)));
    slowest.truncate(DRAWN - DRAWN / 2);
    slowest.sort_by_key(|rank| rank.rank);
    load.iter().take(DRAWN / 2).chain(slowest).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn add(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string can't fail.
    let _ = out.write_fmt(text);
}
