//! What a story came to.

use std::fmt;

/// What was found; at most so many examples of each.
const EXAMPLES_MAX: usize = 5;

/// Promises that were broken: kinds, and examples.
pub(crate) type Blames = Vec<(&'static str, String)>;

/// The outcome of a story.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Counts for people, in the order in which they are shown.
    pub(crate) figures: Vec<(&'static str, u64)>,
    /// What broke a promise, by kind: how often, and examples.
    broken: Vec<(&'static str, u64, Vec<String>)>,
}

impl Verdict {
    pub(crate) fn holds(&self) -> bool {
        self.broken.is_empty()
    }

    /// What kinds of promises were broken.
    #[cfg(test)]
    pub(crate) fn kinds(&self) -> Vec<&'static str> {
        self.broken.iter().map(|(kind, ..)| *kind).collect()
    }

    /// A promise was broken.
    pub(crate) fn blame(&mut self, kind: &'static str, example: String) {
        let index = self.broken.iter().position(|(known, ..)| *known == kind).unwrap_or_else(|| {
            self.broken.push((kind, 0, Vec::new()));
            self.broken.len() - 1
        });
        let (_, count, examples) = &mut self.broken[index];
        *count += 1;
        if examples.len() < EXAMPLES_MAX {
            examples.push(example);
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.figures.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, figure) in &self.figures {
            writeln!(f, "{name:<width$} {figure:>10}")?;
        }
        for (kind, count, examples) in &self.broken {
            writeln!(f, "BROKEN {kind}: {count}")?;
            examples.iter().try_for_each(|example| writeln!(f, "    {example}"))?;
        }
        write!(f, "{}", if self.holds() { "every promise was kept" } else { "promises were broken" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_below_one_another_however_long_their_names() {
        let figures = vec![("clients", 7), ("publications with nobody subscribed", 1_234_567)];
        let shown = Verdict { figures, ..Verdict::default() }.to_string();
        let ends: Vec<usize> = shown.lines().take(2).map(str::len).collect();
        assert_eq!(ends, [46, 46], "{shown}");
    }
}
