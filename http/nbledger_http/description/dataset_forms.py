"""The forms that datasets are uploaded by."""

MAX_NAME = 200

FORM = {
    "type": "object",
    "properties": {
        "file": {
            "type": "string",
            "contentMediaType": "text/csv",
            "description": "The table; its first row names the columns.",
        },
        "datasetName": {
            "type": "string",
            "maxLength": MAX_NAME,
            "description": "By default the name of the file.",
        },
    },
    "required": ["file"],
}
VERSION_FORM = {
    "type": "object",
    "properties": {"file": FORM["properties"]["file"]},  # type: ignore[index]
    "required": ["file"],
}
UPLOAD_NOTES = (
    "Commas, semicolons, tabs and bars are known as delimiters; UTF-8, UTF-16 (with a byte order "
    "mark) and Windows-1252 as encodings; which it is, is found out. So are the types of the "
    "columns, from all rows. The file may be packed by gzip; a workbook, an archive, an HTML page "
    "and other files that are no CSV are refused with what they are. A column that the header does "
    "not name is called `Unnamed: 0` after its place, counted from 0, and `warnings` tells it. "
    "A file that is no good table is refused with row, column and reason."
)
