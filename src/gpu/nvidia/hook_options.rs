//! The options of NVIDIA's hooks.

/// `--name value` and `--name=value`, in order.
pub(super) struct Options<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Options<'a> {
    /// `None`: a word that is no option, or an option without its value.
    pub(super) fn parse(mut words: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut options = Vec::new();
        while let Some(word) = words.next() {
            let name = word.strip_prefix('-')?;
            let name = name.strip_prefix('-').unwrap_or(name);
            let (name, value) = match name.split_once('=') {
                Some(pair) => pair,
                None => (name, words.next()?),
            };
            options.push((name, value));
        }
        Some(Self(options))
    }

    /// `None`: there are others. `container-spec` says where the hook finds the container's state,
    /// and `config` which configuration counts; gpurun as the runtime has both.
    pub(super) fn only(&self, known: &[&str]) -> Option<()> {
        let is_known =
            |name: &str| ["container-spec", "config"].contains(&name) || known.contains(&name);
        self.0.iter().all(|(name, _)| is_known(name)).then_some(())
    }

    pub(super) fn all(&self, name: &'static str) -> impl DoubleEndedIterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// As [`Options::all`], for an option whose value may be a list.
    pub(super) fn list(&self, name: &'static str) -> impl Iterator<Item = &'a str> {
        self.all(name).flat_map(|value| value.split(',')).filter(|item| !item.is_empty())
    }
}
