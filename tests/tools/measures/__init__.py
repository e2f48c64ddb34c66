"""What `make bench` measures.

| module | measures |
| --- | --- |
| `subjects` | nothing: the environments and bundles that are measured |
| `packing` | seconds and bytes of packing, beside archives |
| `times` | seconds: imports, an empty program |
| `counts` | instructions, file operations, requests: the same on any machine |
| `memory` | bytes of a node and of its ranks |
| `transfer` | seconds that a bundle takes to the nodes, beside what bounds them |
| `waiting` | what ranks take of the processors while they wait |
"""
