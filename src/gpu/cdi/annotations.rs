//! CDI names in annotations (`pkg/cdi/annotations.go` of the reference implementation).

use std::collections::HashSet;

use super::name::QualifiedName;

/// Every key begins with this.
pub const PREFIX: &str = "cdi.k8s.io/";

/// The names in these annotations, in the order of the keys: annotations have none of their own.
///
/// # Errors
/// One bad name makes all of them unusable. The error names the annotation.
pub fn names<'a>(
    annotations: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Vec<QualifiedName>, String> {
    let mut annotations: Vec<(&str, &str)> = annotations.into_iter().collect();
    annotations.sort_unstable();
    let mut names: Vec<QualifiedName> = Vec::new();
    let mut known: HashSet<QualifiedName> = HashSet::new();
    for (key, value) in annotations {
        for name in value.split(',') {
            let name =
                QualifiedName::parse(name).map_err(|error| format!("annotation {key}: {error}"))?;
            if known.insert(name.clone()) {
                names.push(name);
            }
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(annotations: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let names = names(annotations.iter().copied())?;
        Ok(names.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn keys_are_taken_in_order_and_names_once() {
        let found = texts(&[("cdi.k8s.io/b_1", "v/c=2,v/c=1"), ("cdi.k8s.io/a_1", "v/c=1")]);
        assert_eq!(found.unwrap(), ["v/c=1", "v/c=2"]);
        assert!(texts(&[]).unwrap().is_empty());
    }

    #[test]
    fn one_bad_name_spoils_all_and_its_annotation_is_named() {
        for value in ["v/c=1, v/c=2", "", "v/c=1,", "all"] {
            let error = texts(&[("cdi.k8s.io/x", value)]).unwrap_err();
            assert!(error.starts_with("annotation cdi.k8s.io/x: "), "{error}");
        }
    }
}
