"""What `--json` prints: each object with its fields, their types and meanings.

docs/json.md is generated from these classes, mypy holds the commands against them, and tests hold
real output against them. Times are UTC in RFC 3339, sizes are in bytes, digests are bare
lower-case hex. A field may be added; none changes its meaning or goes. The second part of each
`Annotated` is the field's meaning in docs/json.md.
"""
