package mesh_test

import "go4.org/mem"

func memB(b []byte) mem.RO { return mem.B(b) }
