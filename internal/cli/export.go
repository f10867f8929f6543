package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"tidemark/internal/app"
	"tidemark/internal/config"
	"tidemark/internal/foresee"
	"tidemark/internal/show/export"
)

func (c *command) exportCommand() *cobra.Command {
	var name string
	cmd := c.jsonFlag(&cobra.Command{
		Use: "export " + strings.Join(export.Formats(), "|"), Short: "Write a fleet's policy as another autoscaler would have it, and what that cannot express",
		Args: cobra.ExactArgs(1), ValidArgs: export.Formats(),
		Long: `Write what another system can express of a fleet's policy: a HorizontalPodAutoscaler, a ScaledObject of KEDA, step scaling and
alarms of AWS as Terraform, or alarms of CloudWatch as a template of CloudFormation. What it cannot express is listed in the
text's comments and on stderr: read it before you apply the text. Nothing is applied here.`,
		Example: "  tidemark export hpa -c tidemark.yaml > hpa.yaml\n  tidemark export aws-terraform -c tidemark.yaml --fleet odoo-workers > scaling.tf",
		RunE: func(_ *cobra.Command, args []string) error {
			cfg, err := checked(c.configPath())
			if err != nil {
				return err
			}
			f, err := foresee.FleetNamed(cfg, name)
			if err != nil {
				return err
			}
			e, err := export.Write(args[0], cfg, f)
			if err != nil {
				return err
			}
			return c.show(e, func() {
				fmt.Fprint(c.out, e.Text)
				fmt.Fprintf(c.err, "What stays behind of fleet %s:\n  %s\n", e.Fleet, strings.Join(e.Lost, "\n  "))
			})
		},
	})
	cmd.AddCommand(c.crdCommand())
	cmd.Flags().StringVar(&name, "fleet", "", "the fleet, when there are several: its `name`")
	return cmd
}

func (c *command) crdCommand() *cobra.Command {
	return c.jsonFlag(&cobra.Command{
		Use: "crd", Short: "Write the CustomResourceDefinition of ScalingPolicies", Args: cobra.NoArgs,
		Long: `Write the definition of ScalingPolicies, by which a Kubernetes cluster takes fleets as objects of its own. It is that of
deploy/kubernetes/crd.yaml and of the Helm chart, as this version has it.`,
		Example: "  tidemark export crd | kubectl apply -f -",
		RunE: func(*cobra.Command, []string) error {
			d := app.PolicyDefinition()
			text, err := config.YAML(d)
			if err != nil {
				return err
			}
			return c.show(d, func() { fmt.Fprintf(c.out, "# Written by tidemark export crd.\n%s", text) })
		},
	})
}
