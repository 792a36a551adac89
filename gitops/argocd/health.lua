-- Health of a ModelRelease for Argo CD (argocd-cm: resource.customizations.health.modelrelease.dev_ModelRelease).
--
--   Healthy      the version in Git is the release, and users are served
--   Progressing  a rollout is under way, or nobody has looked at the last edit yet
--   Suspended    it waits for a person: spec.suspend, or a decision
--   Degraded     it will not go on by itself (rolled back, invalid spec, ...), or nobody serves users
--
-- The message is the condition's own.

local function health(status, message)
  return { status = status, message = message }
end

local status = obj.status
-- The operator writes conditions at its first visit; before, the CRD's default says observedGeneration -1.
if status == nil or status.conditions == nil then
  return health("Progressing", "the operator has not seen the release yet")
end
if status.observedGeneration ~= obj.metadata.generation then
  return health("Progressing", "the operator has not seen the last edit yet")
end

local conditions = {}
for _, condition in ipairs(status.conditions) do
  conditions[condition.type] = condition
end

local function is(type, state)
  return conditions[type] ~= nil and conditions[type].status == state
end

if is("Stalled", "True") then
  return health("Degraded", conditions.Stalled.message)
end
if is("AwaitingApproval", "True") then
  return health("Suspended", conditions.AwaitingApproval.message)
end
if is("Reconciling", "True") and conditions.Reconciling.reason == "Suspended" then
  return health("Suspended", conditions.Reconciling.message)
end
if is("Ready", "True") then
  if is("Available", "False") then
    return health("Degraded", conditions.Available.message)
  end
  return health("Healthy", conditions.Ready.message)
end
if is("Reconciling", "True") then
  return health("Progressing", conditions.Reconciling.message)
end
return health("Progressing", "the operator says neither Ready nor Stalled")
