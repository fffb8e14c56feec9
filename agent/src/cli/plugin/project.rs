//! The folder of a plugin under development: its language, its name, and where its component stands.

use crate::error::Failure;
use crate::sandbox::types::Kind;
use std::path::{Path, PathBuf};

/// What a folder of a language other than Rust says of itself.
const PAPER: &str = "plugin.toml";

/// Languages of templates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Language {
    /// A crate for wasm32-wasip2
    Rust,
    /// componentize-py; a component of 18 MB
    Python,
    /// componentize-qjs; a component of 1.6 MB
    Javascript,
    /// wit-bindgen, zig cc, wasm-tools; a component of some KB
    C,
}

impl Language {
    /// Its folder among the templates.
    pub(super) fn name(self) -> &'static str {
        match self {
            Language::Rust => "rust",
            Language::Python => "python",
            Language::Javascript => "javascript",
            Language::C => "c",
        }
    }
}

/// A kind, as the command line and `plugin.toml` write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum KindName {
    Probe,
    Rule,
    Notifier,
    Action,
}

impl KindName {
    /// As a sentence has it.
    pub(super) fn with_article(self) -> &'static str {
        match self {
            KindName::Probe => "a probe",
            KindName::Rule => "a rule",
            KindName::Notifier => "a notifier",
            KindName::Action => "an action",
        }
    }

    pub(super) fn kind(self) -> Kind {
        match self {
            KindName::Probe => Kind::Probe,
            KindName::Rule => Kind::Rule,
            KindName::Notifier => Kind::Notifier,
            KindName::Action => Kind::Action,
        }
    }
}

/// A folder that `plugin new` wrote, or one like it.
#[derive(Debug)]
pub(super) struct Project {
    pub(super) folder: PathBuf,
    pub(super) name: String,
    pub(super) language: Language,
    /// Not known of Rust, where the code alone says it.
    pub(super) kind: Option<Kind>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Paper {
    name: String,
    kind: KindName,
    language: Language,
}

#[derive(serde::Deserialize)]
struct Manifest {
    package: Package,
}

#[derive(serde::Deserialize)]
struct Package {
    name: String,
}

impl Project {
    /// Reads what the folder is.
    pub(super) fn of(folder: &Path) -> Result<Self, Failure> {
        let (paper, manifest) = (folder.join(PAPER), folder.join("Cargo.toml"));
        let wrong = |path: &Path, error: toml::de::Error| {
            Failure::failed(format!("{}: {}", path.display(), error.message()))
        };
        let folder = folder.to_owned();
        if paper.is_file() {
            let text = text_of(&paper)?;
            let paper: Paper = toml::from_str(&text).map_err(|error| wrong(&paper, error))?;
            return Ok(Project {
                folder,
                name: paper.name,
                language: paper.language,
                kind: Some(paper.kind.kind()),
            });
        }
        if manifest.is_file() {
            let text = text_of(&manifest)?;
            let manifest: Manifest = toml::from_str(&text).map_err(|e| wrong(&manifest, e))?;
            return Ok(Project {
                folder,
                name: manifest.package.name,
                language: Language::Rust,
                kind: None,
            });
        }
        Err(Failure::failed(format!(
            "{} is no plugin's folder: it has neither Cargo.toml nor {PAPER}; `watchfire plugin new` writes one",
            folder.display()
        )))
    }

    /// Where `plugin build` puts the component.
    pub(super) fn component(&self) -> PathBuf {
        self.folder.join(format!("{}.wasm", self.name))
    }
}

/// The component that a path means: itself, or the one built in the plugin's folder it names.
pub(super) fn component_of(path: &Path) -> Result<PathBuf, Failure> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let component = Project::of(path)?.component();
    if component.is_file() {
        Ok(component)
    } else {
        Err(Failure::failed(format!(
            "there is no {}: run `watchfire plugin build {}` first",
            component.display(),
            path.display()
        )))
    }
}

/// The text of a file of a plugin's folder; an error names the file.
pub(super) fn text_of(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file)
        .map_err(|error| Failure::failed(format!("{}: {error}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("a file");
        }
        folder
    }

    #[test]
    fn a_folder_says_what_it_is() {
        let python = "name = \"probe-x\"\nkind = \"probe\"\nlanguage = \"python\"\n";
        let one = folder(&[("plugin.toml", python)]);
        let project = Project::of(one.path()).unwrap();
        assert_eq!(
            (project.language, project.kind),
            (Language::Python, Some(Kind::Probe))
        );
        assert_eq!(project.component(), one.path().join("probe-x.wasm"));
        let not_built = component_of(one.path()).unwrap_err().text;
        assert!(not_built.contains("plugin build"), "{not_built}");

        let rust = folder(&[("Cargo.toml", "[package]\nname = \"rule-y\"\n")]);
        let project = Project::of(rust.path()).unwrap();
        assert_eq!(
            (project.name.as_str(), project.language),
            ("rule-y", Language::Rust)
        );
    }

    #[test]
    fn what_is_none_is_told_how_to_become_one() {
        let none = folder(&[]);
        let text = Project::of(none.path()).unwrap_err().text;
        assert!(text.contains("watchfire plugin new"), "{text}");
        let wrong = folder(&[(
            "plugin.toml",
            "name = \"x\"\nkind = \"prob\"\nlanguage = \"c\"\n",
        )]);
        let text = Project::of(wrong.path()).unwrap_err().text;
        assert!(text.contains("prob"), "{text}");
    }
}
