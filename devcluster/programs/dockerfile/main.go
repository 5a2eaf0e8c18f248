// Command dockerfile reads Dockerfiles as BuildKit does, without building anything, and prints one line for each complaint.
package main

import (
	"fmt"
	"os"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

func main() {
	failed := false
	for _, path := range os.Args[1:] {
		complain := func(text string) {
			failed = true
			fmt.Printf("%s: %s\n", path, text)
		}
		if err := check(path, complain); err != nil {
			complain(err.Error())
		}
	}
	if failed {
		os.Exit(1)
	}
}

func check(path string, complain func(string)) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	parsed, err := parser.Parse(file)
	if err != nil {
		return err
	}
	for _, warning := range parsed.Warnings {
		complain(warning.Short)
	}
	rules := linter.New(&linter.Config{
		Warn: func(rule, _, _, text string, _ []parser.Range) { complain(rule + ": " + text) },
	})
	_, _, err = instructions.Parse(parsed.AST, rules)
	return err
}
