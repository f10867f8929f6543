package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"tidemark/internal/show/web"
	"tidemark/internal/show/web/access"
)

const accountsHelp = `The accounts are in a file, STATE_DIR/users unless listen.users_file names another; it has no password and no token in it, only
what they are recognised by. A change counts at once, and ends the sessions of an account that it changes. Roles: a viewer sees
everything, an operator also gives orders.`

// accountsFlags says where the accounts are.
func accountsFlags(cmd *cobra.Command, file *string) *cobra.Command {
	cmd.PersistentFlags().StringVar(file, "file", "", "the `file` of the accounts (default: as the configuration has it)")
	return cmd
}

// accountsFile is where the accounts are.
func (c *command) accountsFile(file string) (string, error) {
	if file != "" {
		return file, nil
	}
	cfg, err := checked(c.configPath())
	switch {
	case err != nil:
		return "", fmt.Errorf("%w\n(or name the file of the accounts: --file PATH)", err)
	case cfg.Listen.Users == "":
		return "", fmt.Errorf("%s has no dashboard to sign in to: write listen: 127.0.0.1:8460", cfg.File)
	}
	return cfg.Listen.Users, nil
}

// editAccounts changes the accounts.
func (c *command) editAccounts(file string, change func(*access.Accounts) error) (path string, err error) {
	if path, err = c.accountsFile(file); err != nil {
		return "", err
	}
	return path, access.Edit(path, change)
}

func (c *command) userCommand() *cobra.Command {
	var file string
	cmd := accountsFlags(&cobra.Command{Use: "user", Short: "Say who may sign in to the dashboard", Long: "Say who may sign in to the dashboard, with a password.\n\n" + accountsHelp,
		Example: "  tidemark user add mele --role operator\n  tidemark user list\n  tidemark user remove mele"}, &file)
	cmd.AddCommand(c.userAddCommand(&file), c.userListCommand(&file), c.removeCommand(&file, "user", (*access.Accounts).RemoveUser))
	return cmd
}

func (c *command) userAddCommand(file *string) *cobra.Command {
	var role string
	cmd := c.jsonFlag(&cobra.Command{
		Use: "add NAME", Short: "Add an account, or give one another password and role", Args: cobra.ExactArgs(1),
		Long: `Add an account, or give one that is there another password and role. The password is asked for on the terminal, or read from the
first line of standard input; it is never an argument, which others could see.`,
		Example: "  tidemark user add mele --role operator\n  pwgen -s 20 1 | tee mele.txt | tidemark user add mele --role viewer",
		RunE: func(_ *cobra.Command, args []string) error {
			as, err := web.ParseRole(role)
			if err == nil {
				err = access.CheckName(args[0])
			}
			if err != nil {
				return err
			}
			if _, err := c.accountsFile(*file); err != nil { // before a password is typed in vain
				return err
			}
			password, err := c.newPassword()
			if err != nil {
				return err
			}
			path, err := c.editAccounts(*file, func(a *access.Accounts) error { return a.SetUser(args[0], as, password) })
			if err != nil {
				return err
			}
			return c.show(access.User{Name: args[0], Role: as}, func() { fmt.Fprintf(c.out, "%s may sign in as %s (%s)\n", args[0], as, path) })
		},
	})
	cmd.Flags().StringVar(&role, "role", "", "viewer or operator")
	_ = cmd.MarkFlagRequired("role") // it is there
	return cmd
}

// newPassword asks for a password twice, or reads it from standard input.
func (c *command) newPassword() (string, error) {
	in := int(os.Stdin.Fd())
	if !term.IsTerminal(in) {
		text, err := bufio.NewReader(io.LimitReader(os.Stdin, 4096)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("read the password: %w", err)
		}
		return strings.TrimRight(text, "\r\n"), nil
	}
	var typed [2]string
	for i, ask := range []string{"Password: ", "Once more: "} {
		fmt.Fprint(c.err, ask)
		text, err := term.ReadPassword(in)
		fmt.Fprintln(c.err)
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		typed[i] = string(text)
	}
	if typed[0] != typed[1] {
		return "", errors.New("the two are not the same; nothing is changed")
	}
	return typed[0], nil
}

func (c *command) userListCommand(file *string) *cobra.Command {
	return c.jsonFlag(&cobra.Command{
		Use: "list", Short: "List the accounts", Args: cobra.NoArgs, Example: "  tidemark user list --json",
		RunE: func(*cobra.Command, []string) error {
			a, err := c.accounts(*file)
			if err != nil {
				return err
			}
			users := a.Users()
			return c.show(users, func() {
				w := c.table("NAME", "ROLE")
				for _, u := range users {
					fmt.Fprintf(w, "%s\t%s\n", u.Name, u.Role)
				}
				_ = w.Flush() // as every other output here
			})
		},
	})
}

func (c *command) accounts(file string) (*access.Accounts, error) {
	path, err := c.accountsFile(file)
	if err != nil {
		return nil, err
	}
	return access.Read(path)
}

func (c *command) table(columns ...string) *tabwriter.Writer {
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(columns, "\t"))
	return w
}

// removeCommand removes an account or a token.
func (c *command) removeCommand(file *string, what string, remove func(*access.Accounts, string) bool) *cobra.Command {
	return c.jsonFlag(&cobra.Command{
		Use: "remove NAME", Short: "Remove a " + what + ": it is good no more at once", Args: cobra.ExactArgs(1), Example: "  tidemark " + what + " remove mele",
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := c.editAccounts(*file, func(a *access.Accounts) error {
				if !remove(a, args[0]) {
					return fmt.Errorf("there is no %s %s; 'tidemark %s list' says which there are", what, args[0], what)
				}
				return nil
			})
			if err != nil {
				return err
			}
			return c.show(map[string]string{"removed": args[0]}, func() { fmt.Fprintf(c.out, "%s is removed (%s)\n", args[0], path) })
		},
	})
}

func (c *command) tokenCommand() *cobra.Command {
	var file string
	cmd := accountsFlags(&cobra.Command{Use: "token", Short: "Say which programs may use the API", Long: "Say which programs may use the API, with a token that they send as Authorization: Bearer.\n\n" + accountsHelp,
		Example: "  tidemark token add grafana --role viewer --days 365\n  tidemark token list\n  tidemark token remove grafana"}, &file)
	cmd.AddCommand(c.tokenAddCommand(&file), c.tokenListCommand(&file), c.removeCommand(&file, "token", (*access.Accounts).RemoveToken))
	return cmd
}

func (c *command) tokenAddCommand(file *string) *cobra.Command {
	var role string
	var days int
	cmd := c.jsonFlag(&cobra.Command{
		Use: "add NAME", Short: "Make a token and print it; it is shown this once only", Args: cobra.ExactArgs(1),
		Example: "  tidemark token add grafana --role viewer\n  tidemark token add drive --role operator --days 7 > drive.token",
		RunE: func(_ *cobra.Command, args []string) error {
			as, err := web.ParseRole(role)
			if err != nil {
				return err
			}
			if days < 0 || days > 3650 {
				return fmt.Errorf("%d days is out of range: write 1 to 3650, or 0 for a token that does not expire", days)
			}
			made := struct {
				access.Token
				Text string `json:"token"`
			}{Token: access.Token{Name: args[0], Role: as}}
			if days > 0 {
				made.Expires = time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, days)
			}
			path, err := c.editAccounts(*file, func(a *access.Accounts) (err error) {
				made.Text, err = a.AddToken(made.Name, as, made.Expires)
				return err
			})
			if err != nil {
				return err
			}
			return c.show(made, func() {
				fmt.Fprintln(c.out, made.Text)
				fmt.Fprintf(c.err, "%s may use the API as %s with it, %s (%s)\n", made.Name, as, until(made.Expires), path)
			})
		},
	})
	cmd.Flags().StringVar(&role, "role", "", "viewer or operator")
	cmd.Flags().IntVar(&days, "days", 365, "how many days it is good for; 0: until it is removed")
	_ = cmd.MarkFlagRequired("role") // it is there
	return cmd
}

// until says when a token ends.
func until(expires time.Time) string {
	if expires.IsZero() {
		return "until it is removed"
	}
	return "until " + expires.Format(time.DateOnly)
}

func (c *command) tokenListCommand(file *string) *cobra.Command {
	return c.jsonFlag(&cobra.Command{
		Use: "list", Short: "List the tokens", Args: cobra.NoArgs, Example: "  tidemark token list --json",
		RunE: func(*cobra.Command, []string) error {
			a, err := c.accounts(*file)
			if err != nil {
				return err
			}
			tokens := a.Tokens()
			return c.show(tokens, func() {
				w := c.table("NAME", "ROLE", "GOOD")
				for _, t := range tokens {
					fmt.Fprintf(w, "%s\t%s\t%s\n", t.Name, t.Role, until(t.Expires))
				}
				_ = w.Flush() // as every other output here
			})
		},
	})
}
