module github.com/udsipc/udsipc/contrib/protobuf

go 1.25

require (
	github.com/udsipc/udsipc v0.0.0
	google.golang.org/protobuf v1.36.12
)

replace github.com/udsipc/udsipc => ../..
