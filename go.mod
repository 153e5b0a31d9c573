module github.com/udsipc/udsipc

go 1.25
