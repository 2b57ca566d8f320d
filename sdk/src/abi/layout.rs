//! The layout of everything that crosses, as text that is kept under version control.
//!
//! A change of that text is a change that other people's plugins feel. It is made on purpose, with a new version of the SDK:
//! `FINEGRAIN_WRITE_LAYOUT=1 cargo test --release -p finegrain-sdk layout` writes the text anew.

use std::fmt::Write as _;

use abi_stable::StableAbi;
use abi_stable::std_types::UTypeId;
use abi_stable::type_layout::{TLField, TLFunction, TypeLayout};

use crate::abi::root::PluginModRef;

/// All types of the SDK that are reachable from the root module, in the order in which they are met.
fn dump() -> String {
    let mut text = format!("finegrain-sdk {}\n", crate::VERSION);
    visit(
        <PluginModRef as StableAbi>::LAYOUT,
        &mut Vec::new(),
        &mut text,
    );
    text
}

fn visit(layout: &'static TypeLayout, seen: &mut Vec<UTypeId>, text: &mut String) {
    // Types of one generic have one name, so names do not tell them apart.
    let id = layout.get_utypeid();
    if seen.contains(&id) {
        return;
    }
    seen.push(id);
    let fields: Vec<TLField> = layout.get_fields().into_iter().flatten().collect();
    let ours = layout.package() == "finegrain-sdk";
    if ours {
        let _ = writeln!(text, "\n{}: {} bytes", layout.full_type(), layout.size());
    }
    let mut next = Vec::new();
    for field in fields {
        if ours {
            let _ = writeln!(text, "  {}: {}", field.name(), type_name(field.layout()));
        }
        for function in field.function_range() {
            if ours {
                let _ = writeln!(text, "    {}", signature(&function));
            }
            next.extend(function.param_type_layouts.iter().map(|layout| layout()));
            next.extend(function.return_type_layout().map(|layout| layout()));
        }
        next.push(field.layout());
    }
    next.extend(
        layout
            .phantom_fields()
            .into_iter()
            .map(|field| field.layout()),
    );
    for layout in next {
        visit(layout, seen, text);
    }
}

/// A type; for one of `abi_stable`'s generics with the types of its fields, which is where its parameters show:
/// `RSlice<'a>[*const f32, usize]`. One level, for deeper types of the SDK have an entry of their own.
fn type_name(layout: &'static TypeLayout) -> String {
    let name = layout.full_type().to_string();
    let name = name.trim();
    let generics = ["RResult", "RVec", "RSlice"];
    if layout.package() != "abi_stable" || !generics.iter().any(|generic| name.starts_with(generic))
    {
        return name.to_owned();
    }
    let fields: Vec<String> = layout
        .get_fields()
        .into_iter()
        .flatten()
        .map(|field| field.full_type().to_string().trim().to_owned())
        .collect();
    format!("{name}[{}]", fields.join(", "))
}

fn signature(function: &TLFunction) -> String {
    let parameters: Vec<String> = function
        .param_type_layouts
        .iter()
        .map(|layout| type_name(layout()))
        .collect();
    let returned = function.return_type_layout();
    let returned = returned.map_or_else(|| "()".to_owned(), |layout| type_name(layout()));
    format!("({}) -> {returned}", parameters.join(", "))
}

#[test]
fn the_layout_changes_with_the_version_alone() {
    let found = dump();
    if std::env::var_os("FINEGRAIN_WRITE_LAYOUT").is_some() {
        std::fs::write(
            concat!(env!("CARGO_MANIFEST_DIR"), "/src/abi/layout.txt"),
            &found,
        )
        .unwrap();
        return;
    }
    let kept = include_str!("layout.txt");
    assert_eq!(
        kept, found,
        "what crosses the boundary has changed: give the SDK a new version, then write layout.txt anew"
    );
}
