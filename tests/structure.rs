//! The structure of the sources: files that import each other in a circle can't be read one after the other,
//! and a library that imports a command can't be used without it. Imports are read from the code itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, ItemMod, ItemUse, UseTree};

/// A module: the name of its crate, then those of the modules above it and its own.
type Module = Vec<String>;

/// All sources of all crates.
struct Sources {
    /// The file of each module.
    files: BTreeMap<Module, PathBuf>,
    /// What each file says.
    parsed: BTreeMap<PathBuf, syn::File>,
    /// Where an item comes from that a module passes on: the module and the item's name.
    passed_on: BTreeMap<(Module, String), Vec<String>>,
}

fn root() -> PathBuf {
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"))
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

impl Sources {
    fn read(root: &Path) -> Self {
        let mut sources = Self {
            files: BTreeMap::new(),
            parsed: BTreeMap::new(),
            passed_on: BTreeMap::new(),
        };
        let folders = std::fs::read_dir(root).expect("a folder");
        let folders = folders.map(|entry| entry.expect("an entry").path());
        let mut crates: Vec<(String, PathBuf)> = folders
            .filter(|folder| folder.join("src/lib.rs").is_file())
            .map(|folder| {
                let name = folder.file_name().expect("a name").to_string_lossy();
                (format!("artstore_{name}"), folder.join("src"))
            })
            .collect();
        crates.push(("artstore".to_owned(), root.join("src")));
        for (name, folder) in crates {
            let mut files = Vec::new();
            rust_files(&folder, &mut files);
            for file in files {
                let inside = file.strip_prefix(&folder).expect("below it");
                let mut module = vec![name.clone()];
                let parts = inside.with_extension("");
                module.extend(parts.iter().map(|part| part.to_string_lossy().into_owned()));
                if ["lib", "mod"].contains(&module[module.len() - 1].as_str()) {
                    module.pop();
                }
                // A module of tests uses whatever it wants.
                if module.last().is_some_and(|last| last == "tests") {
                    continue;
                }
                let text = std::fs::read_to_string(&file).expect("a source");
                let parsed = syn::parse_file(&text).expect("Rust");
                sources.files.insert(module, file.clone());
                sources.parsed.insert(file, parsed);
            }
        }
        for (module, file) in &sources.files {
            let mut imports = Imports::default();
            imports.visit_file(&sources.parsed[file]);
            for (path, public) in imports.paths {
                let Some(path) = public.then(|| sources.absolute(module, &path)).flatten() else {
                    continue;
                };
                let name = path.last().expect("a path has a name").clone();
                sources.passed_on.insert((module.clone(), name), path);
            }
        }
        sources
    }

    /// A path as it is written in a module, from its crate on; none for other crates' paths.
    fn absolute(&self, module: &Module, path: &[String]) -> Option<Vec<String>> {
        let mut path = path.iter().peekable();
        let mut absolute = match path.peek()?.as_str() {
            "crate" => vec![module[0].clone()],
            "self" | "super" => module.clone(),
            first if first.starts_with("artstore") => vec![first.to_owned()],
            // A module below this one.
            first => {
                let below = [module.as_slice(), &[first.to_owned()]].concat();
                self.files.contains_key(&below).then(|| module.clone())?
            }
        };
        if path
            .peek()
            .is_some_and(|first| *first == "crate" || first.starts_with("artstore"))
        {
            path.next();
        }
        for part in path {
            match part.as_str() {
                "super" => {
                    absolute.pop()?;
                }
                "self" => {}
                _ => absolute.push(part.clone()),
            }
        }
        Some(absolute)
    }

    /// The file that a path leads to: that of the longest module at its beginning, or of the module that an
    /// item comes from which is passed on there.
    fn file(&self, path: &[String]) -> Option<&PathBuf> {
        let length = (1..=path.len())
            .rev()
            .find(|length| self.files.contains_key(&path[..*length]))?;
        let module = path[..length].to_vec();
        if let Some(item) = path.get(length)
            && let Some(origin) = self.passed_on.get(&(module.clone(), item.clone()))
            && *origin != path[..=length]
        {
            return self.file(origin);
        }
        self.files.get(&module)
    }

    /// Each file, and those that it imports.
    fn arrows(&self) -> BTreeMap<&PathBuf, BTreeSet<&PathBuf>> {
        let mut arrows: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (module, file) in &self.files {
            let mut imports = Imports::default();
            imports.visit_file(&self.parsed[file]);
            let to = arrows.entry(file).or_default();
            for (path, public) in imports.paths {
                let Some(path) = self.absolute(module, &path) else {
                    continue;
                };
                // What is passed on is not used here.
                if public {
                    continue;
                }
                to.extend(self.file(&path).filter(|other| *other != file));
            }
        }
        arrows
    }
}

/// The paths that a file imports or names, but those of its tests; and whether they are passed on.
#[derive(Default)]
struct Imports {
    paths: Vec<(Vec<String>, bool)>,
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Ident>()
                .is_ok_and(|only| only == "test")
    })
}

impl Imports {
    fn tree(&mut self, before: &[String], tree: &UseTree, public: bool) {
        let with = |name: String| [before, &[name]].concat();
        match tree {
            UseTree::Path(path) => {
                self.tree(&with(path.ident.to_string()), &path.tree, public);
            }
            UseTree::Name(name) => self.paths.push((with(name.ident.to_string()), public)),
            UseTree::Rename(name) => self.paths.push((with(name.ident.to_string()), public)),
            UseTree::Glob(_) => self.paths.push((before.to_vec(), public)),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.tree(before, tree, public);
                }
            }
        }
    }
}

impl<'a> Visit<'a> for Imports {
    fn visit_item_mod(&mut self, item: &'a ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'a ItemUse) {
        if !is_test(&item.attrs) {
            let public = !matches!(item.vis, syn::Visibility::Inherited);
            self.tree(&[], &item.tree, public);
        }
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let names = path.segments.iter().map(|part| part.ident.to_string());
        let names: Vec<String> = names.collect();
        if names.len() > 1 {
            self.paths.push((names, false));
        }
        visit::visit_path(self, path);
    }

    fn visit_visibility(&mut self, _: &'a syn::Visibility) {}
}

/// Files of which each leads to each other.
fn circles<'a>(arrows: &BTreeMap<&'a PathBuf, BTreeSet<&'a PathBuf>>) -> Vec<Vec<&'a PathBuf>> {
    let reach: BTreeMap<_, BTreeSet<&PathBuf>> = arrows
        .keys()
        .map(|from| {
            let mut reached = BTreeSet::new();
            let mut next: Vec<_> = arrows[*from].iter().copied().collect();
            while let Some(file) = next.pop() {
                if reached.insert(file) {
                    next.extend(arrows.get(file).into_iter().flatten());
                }
            }
            (*from, reached)
        })
        .collect();
    let mut circles: Vec<Vec<&PathBuf>> = Vec::new();
    for (file, reached) in &reach {
        if !reached.contains(file) || circles.iter().any(|circle| circle.contains(file)) {
            continue;
        }
        let back = |other: &&&PathBuf| reach[*other].contains(file);
        circles.push(reached.iter().filter(back).copied().collect());
    }
    circles
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let root = root();
    let sources = Sources::read(&root);
    let arrows = sources.arrows();
    assert!(arrows.len() > 300, "{} files", arrows.len());
    let shown = |file: &Path| {
        file.strip_prefix(&root)
            .expect("below it")
            .display()
            .to_string()
    };
    let mut found = String::new();
    for circle in &circles(&arrows) {
        let first = shown(circle[0]);
        found += &format!("\na circle of {} files from {first}:\n", circle.len());
        for from in circle {
            for to in arrows[*from].iter().filter(|to| circle.contains(to)) {
                found += &format!("  {} -> {}\n", shown(from), shown(to));
            }
        }
    }
    assert!(found.is_empty(), "{found}");
}

#[test]
fn nothing_imports_a_command_but_commands() {
    let root = root();
    let sources = Sources::read(&root);
    let commands = root.join("src/commands");
    let below = |file: &Path| file.starts_with(&commands);
    let main = root.join("src/main.rs");
    for (from, to) in sources.arrows() {
        let outside = !below(from) && *from != main;
        let commands: Vec<_> = to.iter().filter(|to| outside && below(to)).collect();
        assert!(
            commands.is_empty(),
            "{} imports {commands:?}",
            from.display()
        );
    }
}

/// Types that print what they hold, by the derived output.
#[derive(Default)]
struct Printed {
    found: Vec<String>,
}

/// Whether there is such an attribute with this word in its list.
fn has(attributes: &[Attribute], name: &str, word: &str) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident(name)
            && matches!(&attribute.meta, syn::Meta::List(list) if list.tokens.to_string().contains(word))
    })
}

/// The names in a type.
#[derive(Default)]
struct Names(BTreeSet<String>);

impl<'a> Visit<'a> for Names {
    fn visit_ident(&mut self, name: &'a syn::Ident) {
        self.0.insert(name.to_string());
    }
}

/// Why a field must not be printed. `PgConnectOptions` shows its password.
fn shows_a_secret(field: &syn::Field) -> bool {
    const NAMES: &[&str] = &["password", "secret", "token", "seed"];
    let name = field.ident.as_ref().map(ToString::to_string);
    let named = name.is_some_and(|name| NAMES.iter().any(|end| name.ends_with(end)));
    let hidden = has(&field.attrs, "arg", "hide_env_values");
    let mut kind = Names::default();
    kind.visit_type(&field.ty);
    kind.0.contains("PgConnectOptions") || (named || hidden) && kind.0.contains("String")
}

impl<'a> Visit<'a> for Printed {
    fn visit_item_mod(&mut self, item: &'a ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_struct(&mut self, item: &'a syn::ItemStruct) {
        if has(&item.attrs, "derive", "Debug") && item.fields.iter().any(shows_a_secret) {
            self.found.push(item.ident.to_string());
        }
    }

    fn visit_item_enum(&mut self, item: &'a syn::ItemEnum) {
        let mut fields = item.variants.iter().flat_map(|variant| &variant.fields);
        if has(&item.attrs, "derive", "Debug") && fields.any(shows_a_secret) {
            self.found.push(item.ident.to_string());
        }
    }
}

#[test]
fn no_debug_output_contains_a_secret() {
    let planted = "#[derive(Clone, Debug)] struct A { database: &'a PgConnectOptions }
         #[derive(Debug)] struct B { nats_password: Option<String> }
         #[derive(Debug)] struct C { #[arg(long, hide_env_values = true)] url: Option<String> }
         #[derive(Debug)] enum D { One { token: String } }
         #[derive(Debug)] struct Fine { password: Option<Secret>, tokens: u64 }
         struct FineToo { password: String }";
    let mut seen = Printed::default();
    seen.visit_file(&syn::parse_file(planted).expect("Rust"));
    assert_eq!(seen.found, ["A", "B", "C", "D"]);
    let mut printed = Printed::default();
    for file in Sources::read(&root()).parsed.values() {
        printed.visit_file(file);
    }
    assert!(printed.found.is_empty(), "{:?}", printed.found);
}
