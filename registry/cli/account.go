package cli

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"tidemark/registry"
	"tidemark/registry/store"
)

func accountCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "account",
		Short: "Make, list and disable the accounts that people sign in to the admin pages by",
		Example: `  registry account add --db farmers.db --role officer --island Aitutaki moana
  registry account list --db farmers.db
  registry account password --db farmers.db moana
  registry account disable --db farmers.db moana`,
	}
	cmd.AddCommand(accountAddCommand(), accountListCommand(), accountPasswordCommand(), accountDisableCommand(true), accountDisableCommand(false))
	return cmd
}

func accountAddCommand() *cobra.Command {
	var db, role, file string
	var a registry.Account
	cmd := &cobra.Command{
		Use:   "add --db FILE --role ROLE NAME",
		Short: "Make an account; its password is asked for",
		Long: `Make an account. Its password is asked for on the terminal, or read from standard input or a file; it is never an argument,
which other users of the machine could read.

A viewer reads; an officer also edits farmers and decides about conflicts, duplicates and pre-registrations; an
administrator also imports and exports. With --island all of it is only for the farmers of these islands.`,
		Example: `  registry account add --db farmers.db --role officer --island Aitutaki moana
  registry account add --db farmers.db --role administrator --password-file secret.txt tere`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a.Name, a.Role, a.CreatedAt = args[0], registry.Role(role), time.Now()
			if faults := a.Check(); faults != nil {
				return fmt.Errorf("the %s %s", faults[0].Field, faults[0].Detail)
			}
			return withStore(cmd, db, func(s *store.Store) error {
				known, err := knownIslands(cmd.Context(), s, a.Areas)
				if err != nil {
					return err
				}
				a.Areas = known
				password, err := newPassword(cmd, file, &a)
				if err != nil {
					return err
				}
				switch a, err = s.AddAccount(cmd.Context(), a, password); {
				case errors.Is(err, store.ErrNameTaken):
					return fmt.Errorf("there is an account %s: `registry account list` shows it", a.Name)
				case err != nil:
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "Account %s, %s, islands: %s.\n", a.Name, a.Role, cmp.Or(strings.Join(a.Areas, ", "), "all"))
				return nil
			})
		},
	}
	dbFlag(cmd, &db)
	cmd.Flags().StringVar(&role, "role", "", "viewer, officer or administrator")
	cmd.Flags().StringArrayVar(&a.Areas, "island", nil, "only for the farmers of this island; may be given several times")
	passwordFlag(cmd, &file)
	mustHave(cmd, "role")
	return cmd
}

func accountListCommand() *cobra.Command {
	var db string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list --db FILE",
		Short:   "List all accounts, also those that are disabled",
		Example: "  registry account list --db farmers.db\n  registry account list --db farmers.db --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(cmd, db, func(s *store.Store) error {
				all, err := s.Accounts(cmd.Context())
				if err != nil {
					return err
				}
				if asJSON {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(all)
				}
				table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
				fmt.Fprintln(table, "NAME\tROLE\tISLANDS\tLAST SIGN-IN\tSTATE")
				for _, a := range all {
					last, state := "never", "enabled"
					if !a.SignedInAt.IsZero() {
						last = a.SignedInAt.Format("2006-01-02 15:04 UTC")
					}
					if !a.DisabledAt.IsZero() {
						state = "disabled"
					}
					fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", a.Name, a.Role, cmp.Or(strings.Join(a.Areas, ", "), "all"), last, state)
				}
				return table.Flush()
			})
		},
	}
	dbFlag(cmd, &db)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print them as JSON")
	return cmd
}

func accountPasswordCommand() *cobra.Command {
	var db, file string
	cmd := &cobra.Command{
		Use:     "password --db FILE NAME",
		Short:   "Give an account a new password, and end its sessions",
		Example: "  registry account password --db farmers.db moana",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withStore(cmd, db, func(s *store.Store) error {
				password, err := newPassword(cmd, file, &registry.Account{Name: args[0]})
				if err != nil {
					return err
				}
				if err := known(s.SetPassword(cmd.Context(), args[0], password), args[0]); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "Account %s has a new password.\n", args[0])
				return nil
			})
		},
	}
	dbFlag(cmd, &db)
	passwordFlag(cmd, &file)
	return cmd
}

func accountDisableCommand(disable bool) *cobra.Command {
	var db string
	use, short, done := "disable", "Take an account's right to sign in, and end its sessions at once", "disabled"
	if !disable {
		use, short, done = "enable", "Let a disabled account sign in again", "enabled"
	}
	cmd := &cobra.Command{
		Use:     use + " --db FILE NAME",
		Short:   short,
		Example: "  registry account " + use + " --db farmers.db moana",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withStore(cmd, db, func(s *store.Store) error {
				if err := known(s.SetDisabled(cmd.Context(), time.Now(), args[0], disable), args[0]); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "Account %s is %s.\n", args[0], done)
				return nil
			})
		},
	}
	dbFlag(cmd, &db)
	return cmd
}

// known says of an account that is not there where those are that are.
func known(err error, name string) error {
	if errors.Is(err, registry.ErrNotFound) {
		return fmt.Errorf("there is no account %s: `registry account list` shows them", name)
	}
	return err
}

func passwordFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "password-file", "", "read the password from the first line of this file; by default it is asked for, or read from standard input when that is no terminal")
}

// newPassword asks for a new password for the account: twice on a terminal, where a slip cannot be seen.
func newPassword(cmd *cobra.Command, file string, a *registry.Account) (string, error) {
	var password string
	fd := int(os.Stdin.Fd())
	switch in := cmd.InOrStdin(); {
	case file != "":
		f, err := os.Open(file)
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		defer f.Close()
		if password, err = firstLine(f); err != nil {
			return "", fmt.Errorf("read the password from %s: %w", file, err)
		}
	case in == os.Stdin && term.IsTerminal(fd):
		var typed [2]string
		for i, prompt := range []string{"New password: ", "The same again: "} {
			fmt.Fprint(cmd.ErrOrStderr(), prompt)
			text, err := term.ReadPassword(fd)
			fmt.Fprintln(cmd.ErrOrStderr())
			if err != nil {
				return "", fmt.Errorf("read the password: %w", err)
			}
			typed[i] = string(text)
		}
		if typed[0] != typed[1] {
			return "", errors.New("the two passwords are not the same")
		}
		password = typed[0]
	default:
		var err error
		if password, err = firstLine(in); err != nil {
			return "", fmt.Errorf("read the password from standard input: %w", err)
		}
	}
	if faults := a.CheckPassword(password); faults != nil {
		return "", fmt.Errorf("the password %s", faults[0].Detail)
	}
	return password, nil
}

func firstLine(r io.Reader) (string, error) {
	const most = 4096
	line, err := bufio.NewReader(io.LimitReader(r, most)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return strings.TrimRight(line, "\r\n"), nil
}
