package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/lethe-crm/lethe/internal/config"
)

// configurationCmd writes docs/configuration.md, so that it says what the flags say.
type configurationCmd struct {
	Output string `short:"o" placeholder:"FILE" help:"Write it to a file."`
}

// Run implements the command.
func (cmd *configurationCmd) Run(command *kong.Context, c *console) error {
	text := reference(command.Model.Node)
	if cmd.Output == "" {
		_, err := fmt.Fprint(c.out, text)
		return err
	}
	return os.WriteFile(cmd.Output, []byte(text), 0o644) //nolint:gosec // REASON: a page is for everybody to read
}

// reference is every flag of every command, in Markdown.
func reference(root *kong.Node) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Configuration

<!-- Written by "go generate ./..." from the flags. Do not edit. -->

Every setting is a flag or a variable of the environment; a flag that is given wins. There is no file of settings.
`+"`%s`"+` has the key itself, 32 bytes in base64, in place of `+"`--key-file`"+`; `+"`GOGC`, `GOMEMLIMIT` and `GOMAXPROCS`"+` are those of
Go. Where attachments are in S3 or Azure, the credentials are those that its own tools read. Lists are separated by
commas, and durations are as in `+"`90s`, `15m` and `24h`"+`.
`, config.KeyVariable)
	describeCommands(&b, root)
	return b.String()
}

func describeCommands(b *strings.Builder, node *kong.Node) {
	for _, child := range node.Children {
		if child.Hidden {
			continue
		}
		if len(child.Children) == 0 {
			describeCommand(b, child)
		}
		describeCommands(b, child)
	}
}

func describeCommand(b *strings.Builder, command *kong.Node) {
	fmt.Fprintf(b, "\n## %s\n\n%s\n", strings.ReplaceAll(command.FullPath(), "_", `\_`), command.Help)
	if len(command.Positional) > 0 {
		b.WriteString("\n| argument | what it is |\n|---|---|\n")
		for _, argument := range command.Positional {
			fmt.Fprintf(b, "| `%s` | %s |\n", cell(argument.Summary()), cell(argument.Help))
		}
	}
	var flags []*kong.Flag
	for _, group := range command.AllFlags(true) {
		for _, flag := range group {
			if flag.Name != "help" {
				flags = append(flags, flag)
			}
		}
	}
	if len(flags) == 0 {
		return
	}
	b.WriteString("\n| flag | variable | default | what it means |\n|---|---|---|---|\n")
	for _, flag := range flags {
		name, standard := "--"+flag.Name, ""
		if !flag.IsBool() {
			name += "=" + flag.FormatPlaceHolder()
		}
		if flag.Short != 0 {
			name = "-" + string(flag.Short) + ", " + name
		}
		switch {
		case flag.HasDefault:
			standard = "`" + flag.Default + "`"
		case flag.Required:
			standard = "must be given"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", cell(name), variables(flag.Envs), cell(standard), cell(flag.Help))
	}
}

func variables(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "`" + strings.Join(names, "`, `") + "`"
}

// cell is text within a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
