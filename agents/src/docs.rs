//! The page of an agent, read from its source: the header and the documentation of every option.

/// Shared option structs, which agents include by `#[serde(flatten)]`.
const SHARED: &[(&str, &str)] = &[
    ("OnPolicy", include_str!("core/on_policy.rs")),
    ("Net", include_str!("core/policy.rs")),
    ("Embedding", include_str!("core/trunk.rs")),
    ("Heads", include_str!("core/network.rs")),
    ("Representation", include_str!("core/trunk.rs")),
    ("OffPolicy", include_str!("core/off_policy.rs")),
    ("Settings", include_str!("core/central.rs")),
    ("TrustRegion", include_str!("core/trust_region.rs")),
    ("Clipped", include_str!("core/joint.rs")),
];

/// The text of a source file's `//!` header.
pub fn header(source: &str) -> String {
    let lines = source.lines().map_while(|l| l.strip_prefix("//!"));
    lines.map(|l| l.strip_prefix(' ').unwrap_or(l)).collect::<Vec<_>>().join("\n")
}

/// The first line of the header: what the agent is.
pub fn summary(source: &str) -> String {
    header(source).lines().next().unwrap_or_default().trim_end_matches('.').to_owned()
}

/// Name and documentation of each option of the source's `Config`, shared ones included, in order.
pub fn options(source: &str) -> Vec<(String, String)> {
    fields(source, "Config")
}

fn fields(source: &str, name: &str) -> Vec<(String, String)> {
    let start = format!("pub struct {name} {{");
    let lines = source.lines().skip_while(|l| *l != start).skip(1).take_while(|l| *l != "}");
    let (mut found, mut doc) = (Vec::new(), Vec::new());
    for line in lines.map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            doc.push(text.trim());
        } else if let Some((field, kind)) = line.strip_prefix("pub ").and_then(|l| l.split_once(": ")) {
            let kind = kind.trim_end_matches(',');
            match SHARED.iter().find(|(name, _)| *name == kind) {
                Some((name, source)) => found.extend(fields(source, name)),
                None => found.push((field.to_owned(), doc.join(" "))),
            }
            doc.clear();
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::REGISTRY;

    #[test]
    fn every_option_of_every_agent_is_documented() {
        for entry in REGISTRY {
            let documented = options(entry.source);
            for (key, doc) in &documented {
                assert!(doc.len() > 10, "{}.{key} has no documentation", entry.name);
            }
            let mut names: Vec<&str> = documented.iter().map(|(key, _)| key.as_str()).collect();
            let defaults = (entry.defaults)();
            let mut keys: Vec<&str> = defaults.keys().map(String::as_str).collect();
            names.sort_unstable();
            keys.sort_unstable();
            assert_eq!(names, keys, "{}", entry.name);
        }
    }

    fn learners() -> impl Iterator<Item = &'static crate::Entry> {
        REGISTRY.iter().filter(|e| !["random", "comparator"].contains(&e.name))
    }

    #[test]
    fn every_learning_agent_cites_its_paper_and_names_its_deviations() {
        for entry in learners() {
            let header = header(entry.source);
            assert!(header.contains("arXiv:") && header.contains("Deviations"), "{}", entry.name);
        }
    }

    /// Every numbered line of the pseudo-code has its counterpart in `iterate`.
    #[test]
    fn code_carries_the_numbers_of_its_pseudo_code() {
        for entry in learners() {
            let numbers = header(entry.source)
                .lines()
                .filter_map(|l| l.trim().split_once(". ")?.0.parse::<u32>().ok())
                .collect::<Vec<_>>();
            assert!(numbers.len() >= 3, "{}: no pseudo-code", entry.name);
            for n in numbers {
                assert!(entry.source.contains(&format!("// {n}. ")), "{}: no line {n}", entry.name);
            }
        }
    }
}
