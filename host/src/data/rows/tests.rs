use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use super::*;

/// The file `name` with this content, read.
fn read(name: &str, content: impl AsRef<[u8]>) -> Result<Rows> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, content).unwrap();
    Rows::read(&path, None)
}

fn values(rows: &Rows) -> Vec<&Value> {
    rows.rows.iter().map(|row| &row.values).collect()
}

fn packed(content: impl AsRef<[u8]>) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::default());
    packer.write_all(content.as_ref()).unwrap();
    packer.finish().unwrap()
}

const TWO: &str = "{\"p\": \"a\"}\n{\"p\": \"é\"}\n";

#[test]
fn the_same_rows_come_out_of_every_format() {
    let expected = [json!({"p": "a"}), json!({"p": "é"})];
    for (name, content) in [
        ("x.jsonl", TWO.as_bytes().to_vec()),
        ("x.jsonl", TWO.replace('\n', "\r\n").into_bytes()),
        ("x.jsonl", format!("\u{feff}{TWO}").into_bytes()),
        (
            "x.jsonl",
            format!("\n\n  {}", TWO.replace('\n', "\n\n")).into_bytes(),
        ),
        ("x", TWO.as_bytes().to_vec()),
        (
            "x.json",
            b"[{\"p\": \"a\"}, {\"p\": \"\xc3\xa9\"}]".to_vec(),
        ),
        (
            "x.json",
            "[\n  {\n    \"p\": \"a\"\n  },\n  {\n    \"p\": \"é\"\n  }\n]\n".into(),
        ),
        (
            "x.json",
            "{\n  \"p\": \"a\"\n}\n{\n  \"p\": \"é\"\n}\n".into(),
        ),
        ("x.csv", "p\na\né\n".into()),
        ("x.csv", "\u{feff}p\r\n\"a\"\r\né".into()),
        ("x.tsv", "p\na\né\n".into()),
        ("x.csv", packed("p\na\né\n")),
        ("x.jsonl.gz", packed(TWO)),
        ("x.jsonl", packed(TWO)),
        (
            "x.gz",
            [packed("{\"p\": \"a\"}\n"), packed("{\"p\": \"é\"}\n")].concat(),
        ),
    ] {
        let rows = read(name, &content).unwrap();
        assert_eq!(
            values(&rows),
            [&expected[0], &expected[1]],
            "{name}: {content:?}"
        );
        assert_eq!(rows.set_aside().count(), 0);
    }
}

#[test]
fn places_are_lines_items_and_rows_and_ids_follow_from_them() {
    let rows = read("x.jsonl", "\n{\"p\": 1}\n\n{\"p\": 2}").unwrap();
    assert!(rows.place(&rows.rows[1]).ends_with("x.jsonl:4"));
    assert_eq!(rows.id(&rows.rows[1]), "4");
    let rows = read("x.json", "[{\"p\": 1},\n\n{\"p\": 2}]").unwrap();
    assert!(rows.place(&rows.rows[1]).ends_with("x.json, item 2"));
    let rows = read("x.csv", "p,q\n\"a\nb\",c\nd,\"e, f\"").unwrap();
    assert_eq!(
        values(&rows),
        [
            &json!({"p": "a\nb", "q": "c"}),
            &json!({"p": "d", "q": "e, f"})
        ]
    );
    assert!(rows.place(&rows.rows[1]).ends_with("x.csv:4"));
}

#[test]
fn a_semicolon_or_a_tab_in_the_header_separates_columns() {
    for content in ["p;q\n1,5;b", "p\tq\n1,5\tb"] {
        let rows = read("x.csv", content).unwrap();
        assert_eq!(values(&rows), [&json!({"p": "1,5", "q": "b"})]);
    }
}

#[test]
fn parquet_has_texts_numbers_and_lists_of_structures() {
    use ::parquet::data_type::{ByteArray, ByteArrayType, DoubleType};
    use ::parquet::file::writer::SerializedFileWriter;
    use ::parquet::schema::parser::parse_message_type;
    use std::sync::Arc;

    let schema = "message m { required binary p (UTF8); optional double s;
        optional group l (LIST) { repeated group list { optional group element { optional binary role (UTF8); } } } }";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.parquet");
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let file = fs::File::create(&path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let texts =
        |texts: &[&str]| -> Vec<ByteArray> { texts.iter().map(|&text| text.into()).collect() };
    let mut column = group.next_column().unwrap().unwrap();
    column
        .typed::<ByteArrayType>()
        .write_batch(&texts(&["a", "é"]), None, None)
        .unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column
        .typed::<DoubleType>()
        .write_batch(&[1.5], Some(&[1, 0]), None)
        .unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let roles = texts(&["user", "assistant"]);
    column
        .typed::<ByteArrayType>()
        .write_batch(&roles, Some(&[4, 4, 0]), Some(&[0, 1, 0]))
        .unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();

    let rows = Rows::read(&path, None).unwrap();
    assert_eq!(
        values(&rows),
        [
            &json!({"p": "a", "s": 1.5, "l": [{"role": "user"}, {"role": "assistant"}]}),
            &json!({"p": "é", "s": null, "l": null}),
        ]
    );
    assert!(rows.place(&rows.rows[1]).ends_with("x.parquet, row 2"));
    assert_eq!(Rows::read(&path, Some(1)).unwrap().len(), 1);
    fs::write(&path, b"PAR1 and nothing else").unwrap();
    let error = Rows::read(&path, None).unwrap_err();
    assert!(
        error.to_string().contains("cannot read this Parquet file"),
        "{error}"
    );
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn a_row_that_cannot_be_read_is_set_aside_with_its_line_and_the_others_are_used() {
    let reasons = |rows: &Rows| -> Vec<(String, String)> {
        rows.set_aside().map(|row| (row.id, row.detail)).collect()
    };
    let rows = read("x.jsonl", "{\"p\": 1}\n{\"p\": \"\\ud83d\"}\n{\"p\": NaN}").unwrap();
    assert_eq!(values(&rows), [&json!({"p": 1}), &json!({"p": null})]);
    assert_eq!((&*reasons(&rows)[0].0, reasons(&rows).len()), ("2", 1));
    assert!(reasons(&rows)[0].1.contains("half a character"));
    let rows = read(
        "x.json",
        "[{\"p\": Infinity}, {\"p\": \"\\udc00\"}, {\"p\": 3}]",
    )
    .unwrap();
    assert_eq!(values(&rows), [&json!({"p": null}), &json!({"p": 3})]);
    assert_eq!(reasons(&rows)[0].0, "2");
    // A file that was still being written when it was copied.
    let rows = read("x.jsonl", "{\"p\": 1}\n{\"p\": \"tw").unwrap();
    assert_eq!((rows.rows.len(), rows.len()), (1, 2));
    assert!(reasons(&rows)[0].1.contains("cut off"));
    for content in ["p,q\n1,2\n3\n4,5", "p,q\n1,2\n4,5\n3,\"6"] {
        let rows = read("x.csv", content).unwrap();
        assert_eq!((rows.rows.len(), reasons(&rows).len()), (2, 1), "{content}");
    }
}

#[test]
fn what_is_no_file_of_rows_is_named_with_what_is_accepted() {
    let rows = r#"{"train": [{"p": 1}], "test": [{"p": 2}]}"#;
    let pretty =
        serde_json::to_string_pretty(&serde_json::from_str::<Value>(rows).unwrap()).unwrap();
    for (name, content, words) in [
        ("x.jsonl", &b""[..], "the file is empty"),
        ("x.jsonl", b" \n\n", "the file is empty"),
        ("x.json", b"[]", "no rows"),
        ("x.csv", b"p,q\n", "no rows"),
        ("x.jsonl", b"\xff\xfe{\0\"\0", "UTF-16"),
        ("x.jsonl", b"{\0\"\0p\0", "UTF-16"),
        (
            "x.jsonl",
            b"{\"p\": 1}\n{\"p\": \"\xe9\"}",
            "x.jsonl:2: not UTF-8: found the byte 0xE9",
        ),
        ("x.jsonl", b"{\"p\": 1}\r{\"p\": 2}\r", "carriage return"),
        ("x.jsonl", b"PK\x03\x04...", "zip archive"),
        ("x.parquet", b"\x28\xb5\x2f\xfd...", "zstd"),
        ("x.jsonl", b"\n<!DOCTYPE html><html>", "an HTML page"),
        (
            "x.jsonl",
            b"version https://git-lfs.github.com/spec/v1\noid",
            "Git LFS",
        ),
        ("x.arrow", b"ARROW1\0\0", "Arrow"),
        (
            "x.jsonl",
            b"\x1f\x8b\x08\0",
            "gzip file is damaged or cut off",
        ),
        (
            "x.json",
            rows.as_bytes(),
            "one object with the key `train`, `test`",
        ),
        (
            "x.json",
            pretty.as_bytes(),
            "one object with the key `train`, `test`",
        ),
        (
            "x.json",
            br#"{"p": {"0": "a", "1": "b"}}"#,
            "a column under every key",
        ),
        (
            "x.jsonl",
            b"p,q\n1,2",
            "neither JSON nor a table by its name",
        ),
        ("x.csv", b"p,p\n1,2", "two columns are called \"p\""),
        (
            "x.jsonl",
            b"{\"p\": 1}\n{'p': 2}\n",
            "x.jsonl:2: not JSON: texts stand in single quotes",
        ),
        (
            "x.jsonl",
            b"{\"p\": 1}\n{\"p\":\n{\"p\": 3}\n",
            "x.jsonl:2: not JSON: the line ends within its object",
        ),
        (
            "x.jsonl",
            b"{\"p\": 1}\n[2]\n",
            "x.jsonl:2: found a list, not an object",
        ),
        (
            "x.json",
            b"[{\"p\": 1},\n {\"p\": 2",
            "x.json:2: not JSON: the file ends within its item 2",
        ),
        ("x.json", b"[{\"p\": 1}, ", "the array is not closed"),
        (
            "x.json",
            b"[{\"p\": 1} {\"p\": 2}]",
            "no comma behind item 1",
        ),
        (
            "x.json",
            b"[{\"p\": 1}]\n[{\"p\": 2}]",
            "more stands behind the array",
        ),
        ("x.json", b"[1]", "item 1: found a number, not an object"),
    ] {
        let error = read(name, content).expect_err(words);
        assert_eq!(error.exit_code(), 2, "{error}");
        assert!(error.to_string().contains(words), "{words}: {error}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn one_line_with_a_list_of_objects_is_a_row_unless_its_key_says_otherwise() {
    let rows = read("x.jsonl", r#"{"messages": [{"role": "user"}]}"#).unwrap();
    assert_eq!(rows.len(), 1);
}

#[test]
fn a_folder_is_its_files_in_the_order_of_their_names() {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in [
        ("b.jsonl", "{\"p\": \"b\"}"),
        ("a.csv", "p\na\n"),
        ("README.md", "no data"),
        (".hidden.jsonl", "{}"),
    ] {
        fs::write(dir.path().join(name), content).unwrap();
    }
    fs::write(dir.path().join("c.json.gz"), packed("[{\"p\": \"c\"}]")).unwrap();
    let rows = Rows::read(dir.path(), None).unwrap();
    let ids: Vec<String> = rows.rows.iter().map(|row| rows.id(row)).collect();
    assert_eq!(ids, ["a.csv:2", "b.jsonl:1", "c.json.gz:1"]);
    assert_eq!(Rows::read(dir.path(), Some(2)).unwrap().len(), 2);

    let before = fingerprint(dir.path()).unwrap();
    fs::rename(dir.path().join("a.csv"), dir.path().join("d.csv")).unwrap();
    assert_ne!(fingerprint(dir.path()).unwrap(), before);
    let empty = tempfile::tempdir().unwrap();
    let error = Rows::read(empty.path(), None).unwrap_err();
    assert!(
        error.to_string().contains("no file of this folder is read"),
        "{error}"
    );
}
