//! The template of which k3s and RKE2 make containerd's configuration at each start: [their
//! documentation](https://docs.k3s.io/advanced#configuring-containerd). It is no TOML before it is
//! filled in, so gpurun's part stands in a block of its own at the end.

use std::ops::Range;

use super::{TextError, Wish};

const BEGIN: &str = "# gpurun: begin\n";
const END: &str = "# gpurun: end\n";

/// What makes a template of the distribution's own text.
const BASE: &str = "{{ template \"base\" . }}\n";

/// The template with gpurun's block. An absent one begins with the distribution's own text.
/// `plugin`: the CRI plugin's name in the layout of the file; `taken`: the runtimes that the
/// template's text makes already.
///
/// # Errors
/// A name is taken, or the default was asked for, which a block at the end cannot set.
pub fn add(
    text: Option<&str>,
    wish: &Wish,
    plugin: &str,
    taken: &[String],
) -> Result<String, TextError> {
    if wish.default {
        let reason = "a template cannot set the default runtime: put 'default-runtime: NAME' into \
                      the distribution's own config.yaml instead of --set-as-default";
        return Err(TextError::Refused(reason.to_owned()));
    }
    let rest = without(text.unwrap_or(BASE));
    for name in wish.names.iter().map(|name| name.as_str()) {
        if taken.iter().any(|other| other == name) {
            return Err(TextError::Refused(format!(
                "the distribution makes a runtime {name} itself, because it found a program of \
                 that name's toolkit: remove that toolkit, or leave out --as {name}"
            )));
        }
    }
    let mut out = rest;
    if !out.is_empty() && !out.ends_with('\n') {
        out.push('\n');
    }
    out += BEGIN;
    for name in &wish.names {
        let table = format!("plugins.'{plugin}'.containerd.runtimes.'{}'", name.as_str());
        out += &format!(
            "[{table}]\n  runtime_type = \"io.containerd.runc.v2\"\n[{table}.options]\n  \
             BinaryName = {:?}\n  SystemdCgroup = {{{{ .SystemdCgroup }}}}\n",
            wish.binary()
        );
    }
    out += END;
    Ok(out)
}

/// The names in gpurun's block.
pub fn ours(text: &str) -> Vec<String> {
    let lines = block(text).into_iter().flat_map(|range| text[range].lines());
    let names = lines.filter_map(|line| {
        line.strip_suffix("']")?.rsplit_once(".runtimes.'").map(|(_, name)| name.to_owned())
    });
    names.collect()
}

/// The template without gpurun's block. `None`: nothing is left but the distribution's own text,
/// which it also uses without a template.
pub fn remove(text: &str, original: Option<&str>) -> Option<String> {
    let rest = without(text);
    if original.is_some_and(|original| original == rest.strip_suffix('\n').unwrap_or(&rest)) {
        return original.map(str::to_owned);
    }
    (original.is_some() || rest != BASE).then_some(rest)
}

/// Whether there is a block, whatever is in it.
#[cfg(any(test, feature = "fuzzing"))]
pub fn has_block(text: &str) -> bool {
    block(text).is_some()
}

fn without(text: &str) -> String {
    let mut rest = text.to_owned();
    // Whoever copied the template may have copied the block as well.
    while let Some(block) = block(&rest) {
        rest.replace_range(block, "");
    }
    rest
}

/// Where gpurun's block is, with both of its lines: the first end, and the beginning before it.
fn block(text: &str) -> Option<Range<usize>> {
    let mut begin = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        match (line, begin) {
            (BEGIN, _) => begin = Some(at),
            (END, Some(begin)) => return Some(begin..at + line.len()),
            _ => {}
        }
        at += line.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::Name;
    use super::*;

    fn wish(default: bool) -> Wish {
        let names = vec![Name::parse("gpurun").unwrap()];
        Wish { names, binary: "/usr/local/bin/gpurun".into(), default }
    }

    const PLUGIN: &str = "io.containerd.cri.v1.runtime";

    #[test]
    fn a_block_is_added_to_the_distributions_text_or_to_the_administrators() {
        let text = add(None, &wish(false), PLUGIN, &[]).unwrap();
        let expected = r#"{{ template "base" . }}
# gpurun: begin
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.'gpurun']
  runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.'gpurun'.options]
  BinaryName = "/usr/local/bin/gpurun"
  SystemdCgroup = {{ .SystemdCgroup }}
# gpurun: end
"#;
        assert_eq!(text, expected);
        assert_eq!(add(Some(&text), &wish(false), PLUGIN, &[]).unwrap(), text);
        assert_eq!(ours(&text), ["gpurun"]);
        assert_eq!(remove(&text, None), None);
        for own in ["{{ template \"base\" . }}\n# mine\n", "# no line end"] {
            let text = add(Some(own), &wish(false), PLUGIN, &[]).unwrap();
            assert_eq!(remove(&text, Some(own)).as_deref(), Some(own));
        }
    }

    #[test]
    fn only_a_whole_block_is_gpuruns_own() {
        for own in [
            "# gpurun: begin\n# mine\n",
            "# gpurun: end\n# mine\n# gpurun: begin\n",
            "# see # gpurun: begin\n# mine\n# gpurun: end\n",
        ] {
            let text = add(Some(own), &wish(false), PLUGIN, &[]).unwrap();
            assert!(text.starts_with(own), "{text}");
            assert_eq!(add(Some(&text), &wish(false), PLUGIN, &[]).unwrap(), text);
            assert_eq!(remove(&text, Some(own)).as_deref(), Some(own));
        }
    }

    #[test]
    fn a_block_that_was_copied_goes_with_the_first_one() {
        let block = add(None, &wish(false), PLUGIN, &[]).unwrap();
        let twice = format!("{block}\n# mine\n{block}");
        let text = add(Some(&twice), &wish(false), PLUGIN, &[]).unwrap();
        assert_eq!(text.matches(BEGIN).count(), 1, "{text}");
        assert!(text.contains("# mine\n"), "{text}");
        assert_eq!(add(Some(&text), &wish(false), PLUGIN, &[]).unwrap(), text);
    }

    #[test]
    fn what_would_keep_containerd_from_starting_is_refused() {
        let error = add(None, &wish(false), PLUGIN, &["gpurun".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("leave out --as gpurun"), "{error}");
        let error = add(None, &wish(true), PLUGIN, &[]).unwrap_err();
        assert!(error.to_string().contains("default-runtime: NAME"), "{error}");
    }
}
