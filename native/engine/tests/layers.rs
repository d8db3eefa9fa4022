//! Checks the layers of each crate: its `lib.rs` lists the modules in an order, and a module uses only
//! those above it in the list. So no two modules of a crate import each other.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Returns the source folders of the crates of the workspace.
fn crates() -> Vec<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let members = fs::read_dir(workspace).unwrap();
    let sources = members.map(|member| member.unwrap().path().join("src"));
    sources.filter(|src| src.join("lib.rs").exists()).collect()
}

/// Returns the modules in the order of the layout: lines like ``//! - [`a`], `b`: description``.
fn layout(lib: &str) -> Vec<String> {
    let lines = lib.lines().filter_map(|line| line.strip_prefix("//! - "));
    let names = lines.flat_map(|line| {
        let names = line.split(": ").next().unwrap_or_default();
        names.split('`').skip(1).step_by(2).map(str::to_owned)
    });
    names.collect()
}

/// Returns the modules that `lib.rs` declares.
fn declared(lib: &str) -> BTreeSet<String> {
    let module = |line: &str| {
        let line = line.strip_prefix("pub ").unwrap_or(line);
        let name = line.strip_prefix("mod ")?.strip_suffix(';')?;
        Some(name.to_owned())
    };
    let modules = lib.lines().filter_map(module);
    modules.filter(|name| name != "tests").collect()
}

/// Appends the Rust files in `folder`.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Returns the module of a file: the name of its first folder, or of the file itself.
fn module_of(src: &Path, file: &Path) -> String {
    let inside = file.strip_prefix(src).unwrap();
    let first = inside.iter().next().unwrap().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// Returns the first names of the paths that begin with `crate::`, also of `crate::{a, b::c}`.
fn imports(text: &str) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let mut found = BTreeSet::new();
    for (position, _) in code.match_indices("crate::") {
        let path = &code[position + "crate::".len()..];
        match path.strip_prefix('{') {
            Some(list) => found.extend(list_items(list)),
            None => found.extend(first_name(path)),
        }
    }
    found
}

/// Returns the first names of the items of a list, up to its closing brace.
fn list_items(list: &str) -> Vec<String> {
    let mut depth = 0;
    let mut items = vec![String::new()];
    for letter in list.chars() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => items.push(String::new()),
            _ if depth == 0 => items.last_mut().unwrap().push(letter),
            _ => {}
        }
    }
    items
        .iter()
        .filter_map(|item| first_name(item.trim()))
        .collect()
}

fn first_name(path: &str) -> Option<String> {
    let is_name = |letter: char| letter.is_alphanumeric() || letter == '_';
    let end = path.find(|letter| !is_name(letter)).unwrap_or(path.len());
    (end > 0).then(|| path[..end].to_owned())
}

#[test]
fn no_module_uses_one_below_it() {
    let mut wrong = Vec::new();
    let mut found = 0;
    for src in crates() {
        let lib = fs::read_to_string(src.join("lib.rs")).unwrap();
        let order = layout(&lib);
        let position = |name: &str| order.iter().position(|other| other == name);
        let mut all = Vec::new();
        files(&src, &mut all);
        for file in all {
            let module = module_of(&src, &file);
            // `lib.rs` and the tests of a crate may use all its modules.
            if module == "lib" || module == "tests" {
                continue;
            }
            for other in imports(&fs::read_to_string(&file).unwrap()) {
                found += 1;
                if other != module && position(&other) >= position(&module) {
                    wrong.push(format!("{} uses {other}", file.display()));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "imports of lower modules:\n{}",
        wrong.join("\n")
    );
    assert!(found > 100, "only {found} imports were found");
}

#[test]
fn every_module_stands_in_the_layout_once() {
    for src in crates() {
        let lib = fs::read_to_string(src.join("lib.rs")).unwrap();
        let order = layout(&lib);
        let listed: BTreeSet<_> = order.iter().cloned().collect();
        assert_eq!(listed.len(), order.len(), "{}", src.display());
        assert_eq!(listed, declared(&lib), "{}", src.display());
    }
}

#[test]
fn imports_are_read() {
    let text =
        "use crate::a::b;\nuse crate::{c, d::{e, f},\n g};\n// crate::h\nlet x = crate::i();\n";
    let found: Vec<_> = imports(text).into_iter().collect();
    assert_eq!(found, ["a", "c", "d", "g", "i"]);
}

/// Most statics of the crates in the VM, so that a reader can keep the global state in mind.
const MAX_STATICS: usize = 15;

#[test]
fn global_state_is_bounded() {
    let mut found = Vec::new();
    // The state of a child process is that of another program.
    let child = |src: &PathBuf| src.parent().is_some_and(|folder| folder.ends_with("child"));
    for src in crates().into_iter().filter(|src| !child(src)) {
        let mut all = Vec::new();
        files(&src, &mut all);
        for file in all {
            let text = fs::read_to_string(&file).unwrap();
            let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
            let is_static = |line: &&str| {
                line.contains("static ") && line.contains(": ") && {
                    let line = line.trim_start().trim_start_matches("pub(crate) ");
                    line.trim_start_matches("pub(super) ")
                        .starts_with("static ")
                }
            };
            found.extend(code.lines().filter(is_static).map(str::to_owned));
        }
    }
    assert!(
        found.len() <= MAX_STATICS,
        "{} statics:\n{}",
        found.len(),
        found.join("\n")
    );
    assert!(found.len() > 5);
}
